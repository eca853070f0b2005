/*
 * Opens files that the command line names, possibly as root (hardening case 32). Another user may have put a symbolic
 * or hard link there, which must not make root open a file of its own.
 */
#ifndef HT_PROC_FILES_H
#define HT_PROC_FILES_H

#include "base/base.h"
#include "base/err.h"

/* A log and an audit, for appending; they are made when they are not there, the latter for this user alone, and it
 * never makes us wait (O_NONBLOCK, for a pipe). A token, a certificate and its key, and the users, for reading. */
enum proc_files_kind {
    PROC_FILES_LOG,
    PROC_FILES_AUDIT,
    PROC_FILES_TOKEN,
    PROC_FILES_CERT,
    PROC_FILES_KEY,
    PROC_FILES_USERS,
};

/*
 * The descriptor, or HT_EIO with *err, which names the file and what it is.
 *
 * `user`: what --user says, or NULL. Root that is to become that user opens the file as that user. Where he may not, it
 * opens it with its own rights, but follows no symbolic link, and takes a regular file with one name only; a log that
 * it makes so is given to the user. Root that stays root follows no symbolic link at the end of the path, but for the
 * ones of /dev. Everybody else opens files as ever.
 */
int proc_files_open(enum proc_files_kind kind, const char *path, const char *user, struct ht_errmsg *err) HT_MUST_USE;

/* Whether an open file is the caller's own. It may have any content. */
typedef bool (*proc_files_is_ours)(void *ctx, int fd);
/* What it says of the file at `path`. False: it cannot be opened, or is a symbolic link. */
bool proc_files_look(const char *path, proc_files_is_ours is_ours, void *ctx);

/*
 * Removes `path` if it is the caller's own. Another process may put its own there with rename(2) at any moment, which
 * then stays. A file named PATH.PID.gone is there meanwhile. 0: nothing of the caller's is at `path` any more; -1 with
 * errno: it could not be removed.
 */
int proc_files_remove(const char *path, proc_files_is_ours is_ours, void *ctx) HT_MUST_USE;

#endif
