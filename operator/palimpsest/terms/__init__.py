"""What a budget's custodian allows tenants; admission says it early, reconcile says it for good.

Pure. Each function returns what is wrong, in a sentence that names the field and the remedy, or "".
"""
