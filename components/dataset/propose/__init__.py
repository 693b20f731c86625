"""Propose what a folder of images and masks lacks to be a dataset: classes, a validation split, lists.

The folder is read by `components.dataset.layouts` like any dataset, as a draft. `contents` summarises its labels,
`classes` and `rare` derive the classes, `groups` and `holdout` the split. `proposal` puts these together and reads the
folder again as it would be with the new files, so that nothing is written that the pipeline reads differently.
"""
