/* The models, one line each: MODEL(x) stands for `struct model_def model_x`. --list shows them in this order. */
MODEL(resnet18)
MODEL(resnet20)
MODEL(resnet50)
MODEL(vgg16)
MODEL(alexnet)
