"""Official downloads to shards: `run` does what all data sets share, one file each does the rest.

records       what a file of this folder says of each frame
conventions   joint orders, pose parametrisations and frames of the data sets, to ours
sources       raw files, read without trusting them
assemble      records to clips, and how far labels and images agree
run           all frames, in parallel, into shards that a killed run leaves whole
names         all data sets by name
"""
