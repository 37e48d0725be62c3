// Definitions of others that manifests are held against: its files are read, nothing is compiled.
module definitions

go 1.25.0

require (
	github.com/cert-manager/cert-manager v1.18.2
	github.com/prometheus-operator/prometheus-operator v0.85.0
)
