from scanpy_sct.tl._impute import impute
