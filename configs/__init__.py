"""One file is one experiment; `lpdiff train --config NAME` finds it by its name."""
