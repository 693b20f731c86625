"""Labels that are annotations rather than masks: COCO JSON, LabelMe JSON and CVAT XML, drawn as masks of class ids."""
