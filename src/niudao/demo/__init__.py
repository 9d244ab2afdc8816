"""Two trained networks in their own frameworks' files, 100 real test images, and what the frameworks computed from them.

    lenet.h5             LeNet-5 for handwritten digits, saved by Keras 2.2.4
    resnet.keras         a ResNet of 8 layers for the same digits, saved by Keras 3.15
    <stem>.expected.npy  the probabilities its own framework gave for the 100 images, float32 (100, 10)
    <stem>.card.json     input card and class names, under the keys of `niudao.ir.card`
    digits.npz           the images with their labels; digit-0.png ... digit-9.png are ten of them
    accuracy.json        correct answers on every part of the data, seeds, versions, SHA-256 of every file
    data.py              loads all of it

`examples/train_demo` made these files.
"""
