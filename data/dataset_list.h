/* The data sets, one line each: DATASET(x) stands for `struct dataset_def dataset_x`. --list shows them in this order. */
DATASET(auto)
DATASET(fashion_mnist)
DATASET(cifar10)
DATASET(synthetic)
