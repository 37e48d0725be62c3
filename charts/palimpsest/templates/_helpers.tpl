{{/* The chart makes one installation a cluster, so the names need no release in them. */}}
{{- define "palimpsest.labels" -}}
app.kubernetes.io/name: palimpsest
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "palimpsest.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:palimpsest-operator
{{- end }}

{{/* An image's reference, refused if a tag could move it. */}}
{{- define "palimpsest.image" -}}
{{- $image := index .root.Values.images .name }}
{{- if and .root.Values.images.requireDigest (not (regexMatch "@sha256:[0-9a-f]{64}$" $image)) }}
{{- fail (printf "images.%s: %q has no digest; write name@sha256:<64 hex digits>" .name $image) }}
{{- end }}
{{- $image }}
{{- end }}

{{- define "palimpsest.stageImage" -}}
{{ include "palimpsest.image" (dict "root" . "name" "stage") }}
{{- end }}

{{- define "palimpsest.operatorImage" -}}
{{ include "palimpsest.image" (dict "root" . "name" "operator") }}
{{- end }}

{{/* The operator's configuration file. */}}
{{- define "palimpsest.config" -}}
stageImage: {{ include "palimpsest.stageImage" . | quote }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
cluster: {{ .Values.cluster | quote }}
hubEndpoint: {{ .Values.hub.endpoint | quote }}
lease:
  namespace: {{ .Release.Namespace }}
stores:
{{- range $index, $store := .Values.stores }}
  - endpoint: {{ $store.endpoint | quote }}
    region: {{ default "us-east-1" $store.region | quote }}
    pathStyle: {{ ternary true $store.pathStyle (kindIs "invalid" $store.pathStyle) }}
    {{- if $store.roleArn }}
    roleArn: {{ $store.roleArn | quote }}
    tokenFile: /etc/palimpsest/stores/{{ $index }}/token
    {{- with $store.tokenEndpoint }}
    tokenEndpoint: {{ . | quote }}
    {{- end }}
    {{- else }}
    credentials: /etc/palimpsest/stores/{{ $index }}
    {{- end }}
    {{- if $store.caBundle }}
    caBundle: /etc/palimpsest/config/store-{{ $index }}.pem
    {{- end }}
    {{- with $store.sse }}
    sse: {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
{{- with .Values.admission.tls }}
{{- if eq .mode "operator" }}
admissionCertificates:
  names: {{- include "palimpsest.admissionNames" $ | nindent 4 }}
  caLifetime: {{ .caLifetime }}
  leafLifetime: {{ .leafLifetime }}
  renewAfterPercent: {{ .renewAfterPercent }}
  trustWait: {{ .trustWait }}
  retireWait: {{ .retireWait }}
{{- end }}
{{- end }}
{{- end }}

{{/* The names under which API servers call the admission webhook. */}}
{{- define "palimpsest.admissionNames" -}}
- palimpsest-admission.{{ .Release.Namespace }}.svc
- palimpsest-admission.{{ .Release.Namespace }}.svc.cluster.local
{{- end }}

{{- define "palimpsest.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "palimpsest.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Where spans go, as OpenTelemetry's own variables say it. */}}
{{- define "palimpsest.tracing" -}}
{{- with .Values.tracing }}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ .samplingRatio | quote }}}
{{- with .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . }}, key: headers}}
{{- end }}
{{- if .caBundle }}
- {name: OTEL_EXPORTER_OTLP_CERTIFICATE, value: /etc/palimpsest/tracing/ca.pem}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty where the collector's authority is private: the ConfigMap with it is mounted. */}}
{{- define "palimpsest.tracingAuthority" -}}
{{- if .Values.tracing.endpoint }}{{ .Values.tracing.caBundle }}{{ end }}
{{- end }}

{{/* Scheduling fields of the operator's or the admission's values. */}}
{{- define "palimpsest.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* What may be done to stages in a namespace. */}}
{{- define "palimpsest.stageRules" -}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, list, watch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
{{- end }}
