"""What several folders of integration tests share."""

import pytest
from argocd.judge import ArgoCD
from cluster.fixtures import ControlPlane


@pytest.fixture(scope="session")
def argocd(control_plane: ControlPlane) -> ArgoCD:
    """Argo CD's code, with an argocd-cm that has our part."""
    made = ArgoCD(control_plane)
    made.configure()
    return made
