/*
 * The kits that `login` has stored, in $XDG_CONFIG_HOME/hoody-tunnel/kits, by default below ~/.config. Only the owner
 * may read the file, which holds tokens. The first kit is the default of all commands.
 *
 * A line of the file is a word and a text. `kit URL` begins a kit; `token`, `ca` and `pin` belong to it. # begins a
 * comment.
 */
#ifndef HT_CLI_KITS_H
#define HT_CLI_KITS_H

#include "base/base.h"
#include "base/err.h"

#include <limits.h>

/* A stored kit, which owns its texts. */
struct cli_kit {
    char *url;              /* as it was given to login */
    char *token, *ca, *pin; /* NULL: none */
};

/* The texts of a kit to store. NULL or "": none. */
struct cli_kit_texts {
    const char *url, *token, *ca, *pin;
};

struct cli_kits {
    char path[PATH_MAX]; /* the file; "": neither XDG_CONFIG_HOME nor HOME is set */
    struct cli_kit *list;
    size_t n;
};

/*
 * Reads the file. A file that is missing, or that this user may not open, has no kits. Prints a warning when other
 * users may read it. 0, or with *err: HT_EIO, HT_EINVAL (which names the wrong line) or HT_ENOMEM. The caller frees *k
 * in each case.
 */
int cli_kits_load(struct cli_kits *k, struct ht_errmsg *err) HT_MUST_USE;
/* Wipes all texts, and frees them. */
void cli_kits_free(struct cli_kits *k);

/* The index of the kit with this URL; k->n: none. URLs are compared by their parts, so spelling does not matter. */
size_t cli_kits_find(const struct cli_kits *k, const char *url);
/* Stores a copy of `kit`. It replaces the kit with the same URL, or is added at the end. With `first` it becomes the
 * first of all. 0 or HT_ENOMEM. */
int cli_kits_put(struct cli_kits *k, const struct cli_kit_texts *kit, bool first) HT_MUST_USE;
void cli_kits_remove(struct cli_kits *k, size_t i);

/* The kits while the file is being changed. */
struct cli_kits_change {
    struct cli_kits kits;
    int lock; /* a descriptor of the file's folder; -1: not locked */
};
/* Locks the folder, which waits for others who change the file, and loads the kits. The folder is made if it is
 * missing. 0, or with *err: an error of cli_kits_load(), HT_EINVAL: c->kits.path would be "", or HT_EACCESS. The caller
 * calls cli_kits_end() in each case. */
int cli_kits_begin(struct cli_kits_change *c, struct ht_errmsg *err) HT_MUST_USE;
/* Replaces the file in one step (cli_replace_file()). If its name is a symbolic link, the file behind it is replaced.
 * 0, or with *err: HT_EIO, HT_EACCESS or HT_ENOMEM. */
int cli_kits_save(struct cli_kits_change *c, struct ht_errmsg *err) HT_MUST_USE;
/* Unlocks the folder and frees the kits. */
void cli_kits_end(struct cli_kits_change *c);

#endif
