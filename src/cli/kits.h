/*
 * The kits that `login` has stored: $XDG_CONFIG_HOME/hoody-tunnel/kits, by default below ~/.config, for its owner
 * alone. The first is what commands ask when nobody says which kit. A line is a word and a text: `kit URL` begins one,
 * `token` and `ca` belong to it; # begins a comment.
 */
#ifndef HT_CLI_KITS_H
#define HT_CLI_KITS_H

#include "base/base.h"
#include "base/err.h"

#include <limits.h>

struct cli_kit {
    char *url;              /* as it was given to login */
    char *token, *ca, *pin; /* NULL: none */
};

/* The same, as somebody says it; NULL or "" for none. */
struct cli_kit_texts {
    const char *url, *token, *ca, *pin;
};

struct cli_kits {
    char path[PATH_MAX]; /* "": there is no place for it */
    struct cli_kit *list;
    size_t n;
};

/*
 * Reads the file; without one there are none. Warns when others may read it. HT_EIO, HT_EINVAL (the line that is wrong)
 * and HT_ENOMEM with *err. In each case *k has to be freed.
 */
int cli_kits_load(struct cli_kits *k, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes the tokens. */
void cli_kits_free(struct cli_kits *k);

/* Which of them a URL means, however it is spelled; k->n: none. */
size_t cli_kits_find(const struct cli_kits *k, const char *url);
/* Puts a kit in place of the one that its URL means; a new one at the end, and with `first` in front of all. `token`
 * and `ca` may be NULL or "". HT_ENOMEM. */
int cli_kits_put(struct cli_kits *k, const struct cli_kit_texts *kit, bool first) HT_MUST_USE;
void cli_kits_remove(struct cli_kits *k, size_t i);

/*
 * Nobody else changes the file from the load that `begin` does to the end. `save` writes all of it to a file that then
 * takes the old one's name; a symbolic link stays one. HT_EIO, HT_EACCESS with *err.
 */
struct cli_kits_change {
    struct cli_kits kits;
    int lock;
};
int cli_kits_begin(struct cli_kits_change *c, struct ht_errmsg *err) HT_MUST_USE;
int cli_kits_save(struct cli_kits_change *c, struct ht_errmsg *err) HT_MUST_USE;
void cli_kits_end(struct cli_kits_change *c);

#endif
