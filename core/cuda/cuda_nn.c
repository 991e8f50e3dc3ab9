/* The table of layer operations; cuda.h says which file each is in. */
#include "cuda.h"

const struct nn_ops cuda_nn_ops = {
	.input_pitch = cuda_input_pitch,
	.from_f32 = cuda_from_f32,
	.to_f32 = cuda_to_f32,
	.prepare = cuda_prepare,
	.augment = cuda_augment,
	.conv_plan = cuda_conv_plan,
	.conv_name = cuda_conv_name,
	.conv_release = cuda_conv_release,
	.conv_fwd = cuda_conv_fwd,
	.conv_bwd_data = cuda_conv_bwd_data,
	.conv_bwd_filter = cuda_conv_bwd_filter,
	.bn_train = cuda_bn_train,
	.bn_infer = cuda_bn_infer,
	.bn_bwd = cuda_bn_bwd,
	.relu_fwd = cuda_relu_fwd,
	.relu_bwd = cuda_relu_bwd,
	.add_fwd = cuda_add_fwd,
	.grad_add = cuda_grad_add,
	.pool_fwd = cuda_pool_fwd,
	.pool_bwd = cuda_pool_bwd,
	.shortcut_fwd = cuda_shortcut_fwd,
	.shortcut_bwd = cuda_shortcut_bwd,
	.dropout = cuda_dropout,
	.softmax_xent = cuda_softmax_xent,
};
