"""Rows of other projects' data sets, one after the other: files, tables, tar shards, folders and hub data sets."""
