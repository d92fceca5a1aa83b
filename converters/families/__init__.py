"""The families, one file each: names, config table and rules. Every file here that defines `FAMILY` is a family."""
