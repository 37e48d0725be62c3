-- Conditions follow kstatus: Ready, Reconciling, Stalled. Ready's reasons: docs/conditions.md.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions["Ready"], conditions["Stalled"]
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not seen this spec yet."}
end

-- It goes on once somebody resumes it.
local held = {Suspended = true}

local health = {status = "Progressing", message = ready.reason .. ": " .. ready.message}
if ready.status == "True" then
  health.status = "Healthy"
elseif stalled.status == "True" then
  health.status = "Degraded"
elseif held[ready.reason] then
  health.status = "Suspended"
end
return health
