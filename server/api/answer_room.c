/*
 * Upper bounds of what answers take while they are made. Each adds up what the code that makes the answer has in memory
 * at the same time; where a text grows by doubling, its old and its new place count.
 */
#include "server/api/answer_room.h"

#include <string.h>

#include "core/base/json.h"
#include "els/picture.h"
#include "server/base/json_body.h"
#include "server/params/caption.h"

enum {
    GROWING = 3,       /* a text that grows by doubling: at most twice its size, and the half that it comes from */
    RECORD = 16 << 10, /* the fields of a record that are no texts */
    SEED = 160,        /* a number in a list, and its digits */
    BANK = 8 << 10,
    CLASS = 1536, /* three members, as values and as text */
};

size_t srv_room_stored(const char *json)
{
    const struct els_json_limits limits = {SRV_JSON_MAX_DEPTH, SRV_JSON_STORED_VALUES, ELS_JSON_MAX_STRING};
    struct els_json_size measured;
    size_t size = json ? strlen(json) : 0;

    /* What is over a limit is not parsed either. */
    if (!json || els_json_measure(&measured, json, size, &limits, NULL, NULL) < 0)
        return 0;
    return els_json_memory(&measured) + GROWING * size;
}

/* The parameters, a part of them, and the caption with what it is made of. */
static size_t caption_room(const char *params)
{
    return params ? 2 * srv_room_stored(params) + 4 * SRV_CAPTION_BYTES : 0;
}

size_t srv_room_enlarged(int64_t width, int64_t height, int channels, int zoom, const char *params)
{
    size_t most = ELS_PICTURE_MAX_PIXELS, room = caption_room(params), text = params ? SRV_CAPTION_BYTES : 0;

    if (width > ELS_PICTURE_MAX_PIXELS || height > ELS_PICTURE_MAX_PIXELS || (size_t)width * (size_t)height > most)
        return room;
    room += (size_t)width * (size_t)height * (size_t)channels;
    width *= zoom;
    height *= zoom;
    if (width > ELS_PICTURE_MAX_PIXELS || height > ELS_PICTURE_MAX_PIXELS || (size_t)width * (size_t)height > most)
        return room;
    if (zoom > 1)
        room += (size_t)width * (size_t)height * (size_t)channels;
    return room + els_picture_png_memory(width, height, channels, text);
}

size_t srv_room_picture(struct els_shape shape, int64_t n, int columns, int zoom, const char *params)
{
    int64_t width, height;

    els_picture_grid(n, shape, columns, &width, &height);
    return (size_t)n * els_shape_values(shape) * sizeof(float) +
           srv_room_enlarged(width, height, shape.c == 3 ? 3 : 1, zoom, params);
}

/* The text is copied with its record, too. */
static size_t text_room(const char *json)
{
    return json ? srv_room_stored(json) + strlen(json) : 0;
}

size_t srv_room_record(const struct srv_job_record *record, enum srv_job_record_detail detail)
{
    return RECORD + (size_t)record->num_images * SEED + text_room(record->params) + text_room(record->error) +
           text_room(record->engine) + (detail == SRV_RECORD_WHOLE ? text_room(record->result) : 0);
}

size_t srv_room_bank(const struct els_bank_info *info)
{
    size_t room = BANK;

    for (int i = 0; i < info->num_classes; i++)
        room += CLASS + 2 * GROWING * strlen(info->class_names[i]);
    return room;
}
