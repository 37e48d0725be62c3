"""What only stages in the custodian's namespace use."""
