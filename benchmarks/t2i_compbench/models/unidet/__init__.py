"""UniDet (arXiv 2102.13086) as T2I-CompBench uses it, in plain torch: two detectors of 722 classes."""
