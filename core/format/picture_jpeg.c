/*
 * JPEG in, by libjpeg-turbo. Called from any thread; holds no state.
 *
 * As with libpng, errors come by longjmp: the outer function owns and frees, the inner one calls setjmp.
 * libjpeg goes on after most damage and only warns; a bank should hold no half pictures, so warnings
 * about lost data count as errors.
 */
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>

#include "core/format/picture_internal.h"

/* A progressive file may hold thousands of scans of a huge picture in a few bytes each. */
enum { MAX_SCANS = 100 };

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    const uint8_t *bytes;
    size_t size, max_pixels;
    struct els_picture picture;
    struct els_error *err;
    int code;
};

static void read_failed(j_common_ptr jpeg)
{
    struct reader *in = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];

    jpeg->err->format_message(jpeg, message);
    in->code = els_fail(in->err, ELS_EFORMAT, "picture", "the JPEG is damaged: %.200s", message);
    longjmp(in->jump, 1);
}

static void weigh_warning(j_common_ptr jpeg, int level)
{
    int code = jpeg->err->msg_code;

    /* Level −1 is a warning. Those that cost no pixel: bytes between markers, and odd headers. */
    if (level == -1 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR)
        read_failed(jpeg);
}

static void stay_silent(j_common_ptr jpeg)
{
}

static void limit_scans(j_common_ptr jpeg)
{
    struct reader *in = jpeg->client_data;

    if (in->jpeg.input_scan_number > MAX_SCANS) {
        in->code = els_fail(in->err, ELS_ELIMIT, "picture", "the JPEG has more than %d scans", MAX_SCANS);
        longjmp(in->jump, 1);
    }
}

static int read_guarded(struct reader *in)
{
    struct jpeg_decompress_struct *jpeg = &in->jpeg;

    if (setjmp(in->jump))
        return in->code;
    jpeg_create_decompress(jpeg);
    jpeg->client_data = in;
    jpeg->progress = &in->progress;
    jpeg_mem_src(jpeg, in->bytes, in->size);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->num_components != 1 && jpeg->num_components != 3)
        return els_fail(in->err, ELS_EFORMAT, "picture", "the JPEG has %d components; 1 or 3 are read",
                        jpeg->num_components);
    jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    in->code = els_picture_new_checked(&in->picture, jpeg->image_width, jpeg->image_height,
                                       jpeg->num_components, in->max_pixels, in->err);
    if (in->code < 0)
        return in->code;
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = in->picture.pixels + (size_t)jpeg->output_scanline * (size_t)in->picture.width *
                                                (size_t)in->picture.channels;

        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg);
    return 0;
}

int els_picture_read_jpeg(struct els_picture *out, const uint8_t *bytes, size_t size, size_t max_pixels,
                          struct els_error *err)
{
    struct reader in = {.bytes = bytes, .size = size, .max_pixels = max_pixels, .err = err,
                        .code = ELS_ENOMEM};
    int r;

    /* Before jpeg_create_decompress, which may fail too; it keeps err and client_data. */
    in.jpeg.err = jpeg_std_error(&in.errors);
    in.jpeg.client_data = &in;
    in.errors.error_exit = read_failed;
    in.errors.emit_message = weigh_warning;
    in.errors.output_message = stay_silent;
    in.progress.progress_monitor = limit_scans;
    r = read_guarded(&in);
    jpeg_destroy_decompress(&in.jpeg);
    if (r < 0)
        els_picture_deinit(&in.picture);
    else
        *out = in.picture;
    return r;
}
