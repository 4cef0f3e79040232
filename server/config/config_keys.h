/*
 * config_keys: the table of settings, and how one of them is given a value. Only config*.c include
 * this.
 *
 *     const struct srv_key *key = srv_key_find("port");
 *     srv_key_set_text(key, &config, "8081", "--port", &err);
 */
#ifndef SRV_CONFIG_KEYS_H
#define SRV_CONFIG_KEYS_H

#include <jansson.h>

#include "server/config/config.h"

enum srv_key_type {
    SRV_KEY_TEXT,
    SRV_KEY_INT,
    SRV_KEY_BOOL,
};

struct srv_key {
    const char *section; /* a heading of the example file */
    const char *name;    /* "max_body_bytes": in the file; ELSD_MAX_BODY_BYTES; --max-body-bytes */
    enum srv_key_type type;
    size_t offset; /* in struct srv_config */
    const char *doc;
    const char *text;    /* SRV_KEY_TEXT: the default */
    const char *choices; /* SRV_KEY_TEXT: the allowed words, separated by spaces; NULL: any text */
    int64_t min, max;    /* SRV_KEY_INT */
    int64_t number;      /* the default of SRV_KEY_INT and SRV_KEY_BOOL */
    bool live;           /* SIGHUP changes it */
};

/* The table; the last entry's name is NULL. */
extern const struct srv_key srv_keys[];

/* The key of that name ('-' counts as '_', so a flag's name fits), or NULL. */
const struct srv_key *srv_key_find(const char *name, size_t length);
/* Sets from text. `where` ("--port", "ELSD_PORT") begins the sentence of an error. */
int srv_key_set_text(const struct srv_key *key, struct srv_config *config, const char *value,
                     const char *where, struct els_error *err);
/* Sets from a TOML value. */
int srv_key_set_json(const struct srv_key *key, struct srv_config *config, const json_t *value,
                     const char *where, struct els_error *err);
int srv_key_set_default(const struct srv_key *key, struct srv_config *config,
                        struct els_error *err);
void srv_key_clear(const struct srv_key *key, struct srv_config *config);

/* Appends a bank after the checks of its name. */
int srv_config_add_bank(struct srv_config *config, const char *name, size_t name_length,
                        const char *file, const char *where, struct els_error *err);
void srv_config_clear_banks(struct srv_config *config);

#endif
