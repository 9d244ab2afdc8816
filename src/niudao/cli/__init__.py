"""The command line: parse, call one library function, hand the report to `report`."""
