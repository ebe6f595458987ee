"""`python -m reconpatch` is the `reconpatch` command."""

from reconpatch.cli.main import main

main()
