"""The resources (`palimpsest.dev/v1alpha1`) and the documents that cross process boundaries."""

GROUP = "palimpsest.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
