/*
 * answer_room: the most memory that making an answer takes, so that it can be charged before anything is allocated.
 *
 *     if (!srv_response_charge(res, srv_room_picture(record->shape, n, 0, zoom, record->params)))
 *         return;                                        // 413, 429 or 503 is in `res`
 *     ...draw...
 *
 * Upper bounds in bytes, at the peak. What an answer holds until it is sent is less, and charged then
 * (srv_response_bytes). Pure; any thread.
 */
#ifndef SRV_ANSWER_ROOM_H
#define SRV_ANSWER_ROOM_H

#include <stddef.h>

#include "els/bank.h"
#include "server/store/job_record.h"

/* n images of a shape, as values, as a grid, enlarged, and as a PNG. `params`: the stored parameters that its caption is
 * made of; NULL: none. A picture that is refused for its size takes what is allocated before that. */
size_t srv_room_picture(struct els_shape shape, int64_t n, int columns, int zoom, const char *params);
/* A picture of so many pixels enlarged, and as a PNG. */
size_t srv_room_enlarged(int64_t width, int64_t height, int channels, int zoom, const char *params);
/* Stored JSON as a value, and as text in an answer. NULL: 0. */
size_t srv_room_stored(const char *json);
/* srv_job_record_json, with the copy of the record that it is made of, and its text. */
size_t srv_room_record(const struct srv_job_record *record, enum srv_job_record_detail detail);
/* What is said of a bank. */
size_t srv_room_bank(const struct els_bank_info *info);

#endif
