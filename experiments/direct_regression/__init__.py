"""Direct regression of head circumference on HC18: the best that a light network can do, against segmentation."""
