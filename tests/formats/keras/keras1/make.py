"""Made the files beside it, in real Keras 1.2.2: small networks of that generation's layers, with an input and Keras's own answer.

python3.6 -m venv v && v/bin/pip install keras==1.2.2 tensorflow==1.14.0 h5py==2.10.0 protobuf==3.19.6 numpy==1.16.6 scipy==1.2.3
KERAS_BACKEND=tensorflow v/bin/python make.py
"""

import os

import numpy as np
from keras.layers import (
    ELU,
    GRU,
    LSTM,
    Activation,
    AtrousConvolution2D,
    AveragePooling2D,
    BatchNormalization,
    Bidirectional,
    Convolution1D,
    Convolution2D,
    Cropping2D,
    Deconvolution2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    Highway,
    Input,
    LeakyReLU,
    LocallyConnected2D,
    MaxoutDense,
    MaxPooling2D,
    Permute,
    PReLU,
    RepeatVector,
    SeparableConvolution2D,
    SimpleRNN,
    ThresholdedReLU,
    TimeDistributed,
    TimeDistributedDense,
    UpSampling2D,
    ZeroPadding2D,
    merge,
)  # fmt: skip
from keras.models import Model, Sequential

rng = np.random.RandomState(0)
HERE = os.path.dirname(os.path.abspath(__file__))


def save(name, model, x):
    weights = [np.abs(rng.randn(*w.shape) * 0.4) + 0.2 if w.ndim == 1 else rng.randn(*w.shape) * 0.4 for w in model.get_weights()]
    model.set_weights(weights)
    model.save(os.path.join(HERE, name + ".h5"))
    np.savez(os.path.join(HERE, name + ".npz"), x=x.astype("f4"), y=model.predict(x.astype("f4")))


def stack(*layers):
    return Sequential(list(layers))


image, first, series, vector = rng.randn(2, 9, 7, 3), rng.randn(2, 3, 9, 7), rng.randn(2, 6, 5), rng.randn(2, 6)
tf = {"dim_ordering": "tf"}
save("conv_tf", stack(Convolution2D(4, 3, 3, border_mode="same", subsample=(2, 2), activation="relu", input_shape=(9, 7, 3), **tf),
                      BatchNormalization(), MaxPooling2D((2, 2), **tf), Flatten(), Dense(5, activation="softmax")), image)  # fmt: skip
save("conv_th", stack(Convolution2D(4, 3, 2, input_shape=(3, 9, 7), dim_ordering="th"), BatchNormalization(axis=1),
                      AveragePooling2D((2, 2), dim_ordering="th"), Flatten(), Dense(5)), first)  # fmt: skip
save("atrous", stack(AtrousConvolution2D(4, 3, 3, atrous_rate=(2, 2), input_shape=(9, 7, 3), **tf)), image)
save("separable", stack(SeparableConvolution2D(4, 3, 3, border_mode="same", depth_multiplier=2, input_shape=(9, 7, 3), **tf)), image)
save("conv1d", stack(Convolution1D(4, 3, border_mode="same", input_shape=(6, 5)), GlobalMaxPooling1D()), series)
save("lstm", stack(LSTM(4, return_sequences=True, input_shape=(6, 5)), LSTM(3)), series)
save("gru", stack(GRU(4, return_sequences=True, input_shape=(6, 5)), GRU(3)), series)
save("rnn", stack(SimpleRNN(4, input_shape=(6, 5))), series)
save("bi", stack(Bidirectional(LSTM(4, return_sequences=True), input_shape=(6, 5))), series)
save("maxout", stack(MaxoutDense(4, nb_feature=3, input_dim=6)), vector)
save("highway", stack(Highway(input_dim=6)), vector)
save("acts", stack(Dense(6, input_dim=6), LeakyReLU(0.2), Dense(4), ELU(0.5), Dense(4), PReLU(), Dense(3), ThresholdedReLU(0.1)), vector)
save("up", stack(ZeroPadding2D((1, 2), input_shape=(9, 7, 3), **tf), UpSampling2D((2, 2), **tf), Cropping2D(((1, 0), (0, 1)), **tf),
                 GlobalAveragePooling2D(**tf), RepeatVector(3), Permute((2, 1))), image)  # fmt: skip
save("td", stack(TimeDistributed(Dense(4), input_shape=(6, 5)), TimeDistributedDense(3)), series)
save("deconv", stack(Deconvolution2D(4, 3, 3, output_shape=(None, 11, 9, 4), input_shape=(9, 7, 3), **tf)), image)
save("local", stack(LocallyConnected2D(4, 3, 3, input_shape=(9, 7, 3), **tf)), image)
a = Input((9, 7, 3))
b = Convolution2D(3, 1, 1, **tf)(a)
d = merge([merge([a, b], mode="sum"), b], mode="concat", concat_axis=-1)
save("merge", Model(a, Activation("hard_sigmoid")(merge([d, d], mode="mul"))), image)
