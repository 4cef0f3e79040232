/*
 * Who pays for what is kept: each owner of results has one charge, as large as its results are counted. See account.h.
 * Everything here runs under the writer's lock, or before there is another thread.
 *
 * Owners are names of API keys, so they are few. An edited file may hold any number: those beyond MOST_OWNERS are charged
 * together, to nobody.
 */
#include <stdlib.h>
#include <string.h>

#include "server/store/store_db.h"

enum { MOST_OWNERS = 1024 };

struct srv_store_owner {
    struct srv_store_owner *next;
    char name[SRV_OWNER_SIZE];
    struct srv_payer *payer;
    struct srv_charge charge;
};

/* NULL: out of memory. */
static struct srv_store_owner *find_owner(struct srv_store *store, const char *name)
{
    struct srv_store_owner *owner;
    int count = 0;

    for (owner = store->owners; owner && strcmp(owner->name, name) != 0; owner = owner->next)
        count++;
    if (owner)
        return owner;
    if (count >= MOST_OWNERS && *name)
        return find_owner(store, "");
    owner = els_alloc_array(1, sizeof(*owner));
    if (!owner)
        return NULL;
    snprintf(owner->name, sizeof(owner->name), "%s", name);
    owner->payer = srv_payer_new(store->accounts, name, "");
    if (!owner->payer) {
        free(owner);
        return NULL;
    }
    owner->next = store->owners;
    store->owners = owner;
    return owner;
}

int srv_db_charge_owner(struct srv_store *store, const char *name, int64_t bytes, bool forced, struct els_error *err)
{
    enum srv_charge_class class = *store->wal ? SRV_CHARGE_DISK_RESULTS : SRV_CHARGE_STORED;
    struct srv_store_owner *owner;
    struct srv_refusal why;
    int64_t total;
    int status = 0;

    if (!store->accounts)
        return 0;
    owner = find_owner(store, name);
    if (!owner)
        return els_fail(err, ELS_ENOMEM, NULL, "Out of memory.");
    total = owner->charge.bytes + bytes > 0 ? owner->charge.bytes + bytes : 0;
    if (forced && bytes > 0) {
        srv_charge_give(&owner->charge);
        srv_charge_take_any(&owner->charge, owner->payer, class, total);
    } else if (owner->charge.payer) {
        status = srv_charge_resize(&owner->charge, total, &why);
    } else {
        status = srv_charge_take(&owner->charge, owner->payer, class, total, &why);
    }
    return status < 0 ? els_fail(err, ELS_ELIMIT, why.setting, "%s", why.detail) : 0;
}

int srv_store_charge(struct srv_store *store, struct srv_accounts *accounts, struct els_error *err)
{
    struct srv_db *db = &store->writer;
    sqlite3_stmt *s = srv_db_statement(db, SQL_OWNER_TOTALS, err);
    int status = 0, rc = SQLITE_DONE;

    store->accounts = accounts;
    if (!s)
        return ELS_EIO;
    while (status == 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        char name[SRV_OWNER_SIZE];
        const unsigned char *text = sqlite3_column_text(s, 0);

        snprintf(name, sizeof(name), "%s", text ? (const char *)text : "");
        status = srv_db_charge_owner(store, name, sqlite3_column_int64(s, 1), true, err);
    }
    if (status == 0 && rc != SQLITE_DONE)
        status = srv_db_fail(db, rc, err);
    srv_db_done(s);
    return status;
}

void srv_db_free_owners(struct srv_store *store)
{
    struct srv_store_owner *owner;

    while ((owner = store->owners)) {
        store->owners = owner->next;
        srv_charge_give(&owner->charge);
        srv_payer_unref(owner->payer);
        free(owner);
    }
}
