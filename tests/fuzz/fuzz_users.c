/*
 * Files of users: any bytes give users with names and digests of their own, or say what is wrong; the same again when
 * they are read again. Nothing is leaked.
 *
 * Input: the file.
 */
#include "base/log.h"
#include "fuzz.h"
#include "kit/users_priv.h"

#include <fcntl.h>

static void check_result(const struct users_file *f) {
    FUZZ_CHECK(f->n > 0 && f->n <= 1000);
    for (size_t i = 0; i < f->n; i++) {
        const struct users_entry *u = &f->users[i];
        FUZZ_CHECK(kit_user_name_good(u->name) && u->n_digests <= 16);
        FUZZ_CHECK(i == 0 || strcmp(u->name, f->users[i - 1].name) > 0);
        FUZZ_CHECK((u->may.modes & ~(unsigned)KIT_MODES_ALL) == 0);
        FUZZ_CHECK(u->may.max_sessions <= 1024 && u->may.max_streams <= 65536 &&
                   (!u->may.rate || u->may.rate >= 65536));
        for (size_t j = 0; j < u->may.n_ports; j++)
            FUZZ_CHECK(u->may.ports[j].first > 0 && u->may.ports[j].first <= u->may.ports[j].last);
        for (size_t j = 0; j < u->may.n_names; j++)
            FUZZ_CHECK(u->may.names[j][0] && strlen(u->may.names[j]) <= 253);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool quiet;
    struct users_file f, again;
    struct ht_errmsg err = {""}, same = {""};
    if (!quiet)
        ht_log_setup(open("/dev/null", O_WRONLY | O_CLOEXEC), HT_LOG_ERROR, HT_LOG_TEXT);
    quiet = true;
    size_t live = ht_mem_live();
    char *text = fuzz_copy(data, size);
    int rc = users_file_parse(&f, "users.yaml", text, size, &err);
    FUZZ_CHECK(rc == HT_OK || rc == HT_EINVAL);
    FUZZ_CHECK(rc == HT_OK || strncmp(err.text, "users.yaml:", 11) == 0);
    if (rc == HT_OK)
        check_result(&f);
    FUZZ_CHECK(users_file_parse(&again, "users.yaml", text, size, &same) == rc && again.n == f.n &&
               strcmp(err.text, same.text) == 0);
    users_file_free(&f);
    users_file_free(&again);
    free(text);
    FUZZ_CHECK(ht_mem_live() == live);
    return 0;
}
