/*
 * caption: the parameters of a job as the text that its pictures carry ("els" in a PNG's tEXt).
 *
 *     char *caption = srv_caption(record.id, record.params, -1);        // of the job, made once
 *     char *third = srv_caption_of_image(caption, 2);                   // of one of its images
 *
 * A caption holds the resolved parameters, so a picture alone is enough to make it again: without client_ref, and with
 * uploaded tensors named, not held. When that is longer than SRV_CAPTION_BYTES, the caption names the job in their place:
 *
 *     {"job":"ab12…","params_sha256":"…","params":"/v1/jobs/ab12…"}
 *
 * where the digest is that of the stored parameters' text. No caption is longer than SRV_CAPTION_BYTES. Any thread.
 */
#ifndef SRV_CAPTION_H
#define SRV_CAPTION_H

#include <jansson.h>
#include <stddef.h>

enum { SRV_CAPTION_BYTES = 32 << 10 };

/* Of image `index` (seed + index, one image), or for −1 of all images together. `id` is the job's, `resolved` its
 * parameters. A new string (free()), or NULL when out of memory or `resolved` is damaged. */
char *srv_caption(const char *id, const char *resolved, int index);
/* From the caption of all images that of one. */
char *srv_caption_of_image(const char *caption, int index);
/* How many bytes the captions of a job's `num_images` images take at most, or one of all for −1; and the zero when
 * out of memory. */
size_t srv_caption_bytes(const json_t *resolved, int64_t num_images);

#endif
