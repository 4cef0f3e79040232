/*
 * Data sets: IDX, CIFAR and .npy files, plain or gzipped, told apart by their content. The first
 * byte holds the options (1: labels are in a file of their own, whose size the next two bytes tell,
 * little-endian; 2: resize; 4: crop; 8: the first two images only), then come the labels and the images.
 */
#include "els/bank.h"
#include "els/import.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char images_path[32], labels_path[32];
    struct els_import_spec spec = {.source = images_path, .name = "fuzz"};
    struct els_bank *bank = NULL;
    struct els_error err = {0};
    size_t num_labels;
    int images = -1, labels = -1;

    if (size < 3)
        return 0;
    num_labels = data[0] & 1 ? data[1] + 256u * data[2] : 0;
    if (num_labels > size - 3)
        num_labels = size - 3;
    if (data[0] & 1) {
        labels = fuzz_file(data + 3, num_labels, labels_path);
        spec.labels = labels_path;
    }
    if (data[0] & 2)
        spec.resize_h = spec.resize_w = 3;
    if (data[0] & 4)
        spec.crop_h = spec.crop_w = 2;
    if (data[0] & 8)
        spec.limit = 2;
    images = fuzz_file(data + 3 + num_labels, size - 3 - num_labels, images_path);
    if (els_import(&bank, &spec, &err) == 0)
        FUZZ_CHECK(els_bank_info(bank)->num_images > 0);
    else
        FUZZ_CHECK(err.message[0]);
    els_bank_unref(bank);
    close(images);
    if (labels >= 0)
        close(labels);
    return 0;
}
