#include "base/base.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "support/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void slices(void) {
    CU_ASSERT(ht_slice_is(ht_slice_str("abc"), "abc"));
    CU_ASSERT(!ht_slice_is(ht_slice_str("abc"), "abd"));
    CU_ASSERT(ht_slice_case_eq(ht_slice_str("Content-Length"), ht_slice_str("content-lENGTH")));
    CU_ASSERT(!ht_slice_case_eq(ht_slice_str("[x"), ht_slice_str("{x")));
    CU_ASSERT(ht_slice_eq(ht_slice_str(NULL), ht_slice_str("")));
}

static void every_error_has_a_text(void) {
#define CHECK(name, value, text) CU_ASSERT_STRING_EQUAL(ht_err_text(name), text);
    HT_ERR_LIST(CHECK)
#undef CHECK
    CU_ASSERT_STRING_EQUAL(ht_err_text(0), "no error");
    CU_ASSERT_STRING_EQUAL(ht_err_text(-9999), "unknown error");
    CU_ASSERT_EQUAL(ht_err_from_errno(EMFILE), HT_EFDS);
    CU_ASSERT_EQUAL(ht_err_from_errno(EAGAIN), HT_EAGAIN);
}

static void long_messages_end_in_dots(void) {
    struct ht_errmsg e;
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    CU_ASSERT_EQUAL(ht_fail(&e, HT_EINVAL, "%s", big), HT_EINVAL);
    CU_ASSERT_STRING_EQUAL(e.text + sizeof e.text - 4, "...");
    CU_ASSERT_EQUAL(ht_fail(NULL, HT_EIO, "nobody reads this"), HT_EIO);
}

/* Bytes that ht_buf_reserve() has moved, told by the place of the unread ones. */
static void a_backlog_is_not_copied_for_each_piece(void) {
    enum { PIECE = 4096, ROUNDS = 2000 };
    static const char piece[PIECE];
    for (size_t backlog = 10 * PIECE; backlog <= 250 * PIECE; backlog += 30 * PIECE) {
        struct ht_buf b = {0};
        size_t appended = 0, moved = 0;
        while (appended < backlog + ROUNDS * PIECE) {
            size_t used = ht_buf_size(&b), off = b.off;
            const uint8_t *data = b.data;
            CU_ASSERT_EQUAL_FATAL(ht_buf_append(&b, piece, PIECE), HT_OK);
            if (b.data != data || b.off != off)
                moved += used;
            appended += PIECE;
            if (ht_buf_size(&b) > backlog)
                ht_buf_consume(&b, PIECE);
        }
        CU_ASSERT(moved <= 3 * appended);
        CU_ASSERT(b.cap <= 4 * (backlog + PIECE));
        ht_buf_free(&b);
    }
}

/* A reader that is behind by a window of the protocol: the bytes that it has read make no more room. */
static void a_long_backlog_takes_half_as_much_again(void) {
    enum { PIECE = 65536, BACKLOG = 256 * PIECE };
    static const char piece[PIECE];
    struct ht_buf b = {0};
    for (size_t appended = 0; appended < 8u * BACKLOG; appended += PIECE) {
        CU_ASSERT_EQUAL_FATAL(ht_buf_append(&b, piece, PIECE), HT_OK);
        CU_ASSERT(b.cap <= BACKLOG + BACKLOG / 2 + 4 * PIECE);
        if (ht_buf_size(&b) > BACKLOG || appended / PIECE % 3 == 0)
            ht_buf_consume(&b, PIECE);
    }
    ht_buf_free(&b);
}

static void buffers_keep_their_bytes(void) {
    struct ht_buf b = {0};
    size_t before = ht_mem_live();
    unsigned next_in = 0, next_out = 0;
    for (int round = 0; round < 2000; round++) {
        unsigned char piece[97];
        for (size_t i = 0; i < sizeof piece; i++)
            piece[i] = (unsigned char)next_in++;
        CU_ASSERT_EQUAL_FATAL(ht_buf_append(&b, piece, sizeof piece), HT_OK);
        size_t take = ht_min(ht_buf_size(&b), (size_t)(round % 151));
        for (size_t i = 0; i < take; i++)
            CU_ASSERT_EQUAL_FATAL(ht_buf_head(&b)[i], (unsigned char)next_out++);
        ht_buf_consume(&b, take);
    }
    CU_ASSERT_EQUAL(ht_buf_printf(&b, "%0300d", 7), HT_OK);
    ht_buf_free(&b);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

static void a_failed_append_changes_nothing(void) {
    struct ht_buf b = {0};
    CU_ASSERT_EQUAL(ht_buf_append(&b, "abc", 3), HT_OK);
    ht_mem_fail_at(0);
    char big[4096] = {0};
    CU_ASSERT_EQUAL(ht_buf_append(&b, big, sizeof big), HT_ENOMEM);
    CU_ASSERT(ht_slice_is(ht_buf_slice(&b), "abc"));
    CU_ASSERT_EQUAL(ht_buf_append(&b, big, sizeof big), HT_OK);
    ht_buf_free(&b);
}

static void pools_give_memory_back(void) {
    size_t before = ht_mem_live();
    struct ht_pool p;
    void *blocks[8];
    ht_pool_init(&p, 4096, 2);
    for (size_t i = 0; i < 8; i++)
        blocks[i] = ht_pool_get(&p);
    CU_ASSERT_EQUAL(p.live, 8);
    for (size_t i = 0; i < 8; i++)
        ht_pool_put(&p, blocks[i]);
    ht_pool_put(&p, NULL);
    CU_ASSERT_EQUAL(p.live, 0);
    CU_ASSERT_EQUAL(ht_mem_live(), before + 2);
    ht_pool_drain(&p);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
}

static void pools_keep_warm_blocks_while_they_are_needed(void) {
    size_t before = ht_mem_live();
    struct ht_pool p;
    void *blocks[8];
    ht_pool_init(&p, 4096, 2);
    CU_ASSERT_FALSE(ht_pool_cool(&p));
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < 8; i++)
            CU_ASSERT_PTR_NOT_NULL_FATAL(blocks[i] = ht_pool_get(&p));
        for (size_t i = 0; i < 8; i++)
            ht_pool_put_warm(&p, blocks[i]);
        CU_ASSERT_EQUAL(p.free_count, 8);
        CU_ASSERT(ht_pool_cool(&p)); /* all eight were in use since the last time */
        CU_ASSERT_EQUAL(p.free_count, 8);
    }
    /* Whoever else uses the pool does not lose them. */
    for (int i = 0; i < 20; i++)
        ht_pool_put(&p, ht_pool_get(&p));
    CU_ASSERT_EQUAL(p.free_count, 8);
    /* Of three at most two more than those that are always kept. */
    for (size_t i = 0; i < 3; i++)
        blocks[i] = ht_pool_get(&p);
    for (size_t i = 0; i < 3; i++)
        ht_pool_put(&p, blocks[i]);
    CU_ASSERT(ht_pool_cool(&p));
    CU_ASSERT_EQUAL(p.free_count, 5);
    CU_ASSERT_FALSE(ht_pool_cool(&p));
    CU_ASSERT_EQUAL(p.free_count, 2);
    CU_ASSERT_EQUAL(p.live, 0);
    CU_ASSERT_EQUAL(ht_mem_live(), before + 2);
    /* In use when it is looked at, they are not counted on, and come back warm all the same. */
    for (size_t i = 0; i < 8; i++)
        blocks[i] = ht_pool_get(&p);
    CU_ASSERT_FALSE(ht_pool_cool(&p));
    for (size_t i = 0; i < 8; i++)
        ht_pool_put_warm(&p, blocks[i]);
    CU_ASSERT_EQUAL(p.free_count, 8);
    ht_pool_drain(&p);
    CU_ASSERT_EQUAL(ht_mem_live(), before);
    CU_ASSERT_FALSE(ht_pool_cool(&p));
    ht_pool_put(&p, ht_pool_get(&p));
    CU_ASSERT_EQUAL(p.free_count, 1);
    ht_pool_drain(&p);
}

struct item {
    int n;
    struct ht_list node;
};

static void lists(void) {
    struct ht_list head, other;
    struct item items[5];
    ht_list_init(&head);
    ht_list_init(&other);
    for (int i = 0; i < 5; i++) {
        items[i].n = i;
        ht_list_init(&items[i].node);
        ht_list_push_back(i < 3 ? &head : &other, &items[i].node);
    }
    ht_list_splice(&head, &other);
    CU_ASSERT(ht_list_empty(&other));
    int sum = 0, at = 0;
    HT_LIST_FOR_SAFE (it, &head) {
        struct item *item = HT_LIST_ENTRY(it, struct item, node);
        CU_ASSERT_EQUAL(item->n, at++);
        sum += item->n;
        if (item->n == 2)
            ht_list_remove(it);
    }
    CU_ASSERT_EQUAL(sum, 10);
    ht_list_remove(&items[2].node); /* twice is harmless */
    CU_ASSERT_PTR_EQUAL(ht_list_pop_front(&head), &items[0].node);
    CU_ASSERT(!ht_list_linked(&items[0].node));
}

static size_t logged(enum ht_log_format format, char *out, size_t cap) {
    int fd[2];
    CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
    ht_log_setup(fd[1], HT_LOG_INFO, format);
    ht_info("visitor", "path \"%s\"", "/a\nINFO kit: forged\x7f");
    ht_debug("visitor", "not shown");
    ht_log_setup(2, HT_LOG_INFO, HT_LOG_TEXT);
    close(fd[1]);
    ssize_t n = read(fd[0], out, cap - 1);
    close(fd[0]);
    CU_ASSERT_FATAL(n > 0);
    out[n] = '\0';
    return (size_t)n;
}

static void nobody_forges_a_log_line(void) {
    char line[4096];
    logged(HT_LOG_TEXT, line, sizeof line);
    CU_ASSERT_PTR_EQUAL(strchr(line, '\n'), line + strlen(line) - 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "/a\\x0aINFO kit: forged\\x7f"));
    logged(HT_LOG_JSON, line, sizeof line);
    CU_ASSERT_PTR_NOT_NULL(strstr(line, "\"message\":\"path \\\"/a\\u000aINFO kit: forged\\u007f\\\"\"}\n"));
}

static void fields_follow_the_sentence(void) {
    static const char *const want[] = {
        " info  session: bound session=S-1 port=3000 reason=\"a \\\"b\\\" c\" target=x\\u001by\n",
        "\"message\":\"bound\",\"session\":\"S-1\",\"port\":3000,\"reason\":\"a \\\"b\\\" "
        "c\",\"target\":\"x\\u001by\"}\n"};
    const struct ht_log_field fields[] = {
        {.name = "session", .text = ht_slice_str("S-1")},      {.name = "port", .is_number = true, .number = 3000},
        {.name = "peer", .text = ht_slice_str(NULL)},          {.name = "stream", .is_number = true, .absent = true},
        {.name = "reason", .text = ht_slice_str("a \"b\" c")}, {.name = "target", .text = ht_slice_str("x\x1by")}};
    for (int format = HT_LOG_TEXT; format <= HT_LOG_JSON; format++) {
        char line[4096];
        int fd[2];
        CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
        ht_log_setup(fd[1], HT_LOG_INFO, (enum ht_log_format)format);
        ht_log_with(HT_LOG_INFO, "session", fields, HT_ARRAY_LEN(fields), "bound");
        ht_log_setup(2, HT_LOG_INFO, HT_LOG_TEXT);
        close(fd[1]);
        ssize_t n = read(fd[0], line, sizeof line - 1);
        close(fd[0]);
        CU_ASSERT_FATAL(n > 0);
        line[n] = '\0';
        const char *w = want[format];
        if (format == HT_LOG_TEXT) /* a text with nothing to quote is written plain */
            w = " info  session: bound session=S-1 port=3000 reason=\"a \\\"b\\\" c\" target=";
        CU_ASSERT_PTR_NOT_NULL(strstr(line, w));
        if (!strstr(line, w))
            printf("# %s", line);
    }
}

/* The fields of a long text do not make a line longer than its buffer, nor cut it in half. */
static void long_fields_stay_whole(void) {
    static char big[8192];
    memset(big, 'x', sizeof big - 1);
    struct ht_log_field fields[12];
    char line[16384];
    int fd[2];
    for (size_t i = 0; i < HT_ARRAY_LEN(fields); i++)
        fields[i] = (struct ht_log_field){.name = "target", .text = ht_slice_str(big)};
    CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
    ht_log_setup(fd[1], HT_LOG_INFO, HT_LOG_JSON);
    ht_log_with(HT_LOG_INFO, "visitor", fields, HT_ARRAY_LEN(fields), "%s", big);
    ht_log_setup(2, HT_LOG_INFO, HT_LOG_TEXT);
    close(fd[1]);
    ssize_t n = read(fd[0], line, sizeof line);
    close(fd[0]);
    CU_ASSERT_FATAL(n > 3);
    CU_ASSERT_EQUAL(memcmp(line + n - 3, "\"}\n", 3), 0);
}

static unsigned left_out_calls;
static void left_out(void *ctx) {
    (void)ctx;
    left_out_calls++;
}

/* Lines that strangers cause: a burst, then a few each second, and a count of the rest. */
static void strangers_have_a_budget(void) {
    char text[65536];
    int fd[2];
    unsigned lines = 0;
    CU_ASSERT_EQUAL_FATAL(pipe(fd), 0);
    ht_log_setup(fd[1], HT_LOG_INFO, HT_LOG_TEXT);
    ht_log_on_left_out(left_out, NULL);
    ht_clock_skip(3600u * 1000000u);
    const struct ht_log_field none = {.name = "peer"};
    for (int i = 0; i < 2000; i++)
        ht_log_stranger(HT_LOG_INFO, "kit", &none, 1, "stranger");
    ht_log_stranger(HT_LOG_DEBUG, "kit", &none, 1, "not asked for");
    ht_info("kit", "others go on");
    ht_log_tell_left_out();
    ht_clock_skip(1000000u);
    ht_log_stranger(HT_LOG_INFO, "kit", &none, 1, "stranger");
    ht_log_on_left_out(NULL, NULL);
    ht_log_setup(2, HT_LOG_INFO, HT_LOG_TEXT);
    close(fd[1]);
    size_t n = 0;
    for (ssize_t r; n < sizeof text - 1 && (r = read(fd[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)r;
    close(fd[0]);
    text[n] = '\0';
    for (const char *p = text; (p = strstr(p, "kit: stranger\n")); p++)
        lines++;
    CU_ASSERT(lines >= HT_LOG_STRANGERS_BURST + 1 && lines <= HT_LOG_STRANGERS_BURST + 100);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "log lines about clients without a token were left out: too many at once count="));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "kit: others go on\n"));
    CU_ASSERT(left_out_calls >= 1);
}

static void clocks_and_chance(void) {
    uint64_t a = ht_now_us();
    CU_ASSERT(ht_now_us() >= a);
    char u[37], v[37];
    ht_uuid4(u);
    ht_uuid4(v);
    CU_ASSERT_EQUAL(strlen(u), 36);
    CU_ASSERT_EQUAL(u[14], '4');
    CU_ASSERT(strchr("89ab", u[19]) != NULL);
    CU_ASSERT_STRING_NOT_EQUAL(u, v);
    CU_ASSERT(ht_const_time_eq("abc", 3, "abc", 3));
    CU_ASSERT(!ht_const_time_eq("abc", 3, "abd", 3));
    CU_ASSERT(!ht_const_time_eq("abc", 3, "abcd", 4));
}

int main(void) {
    static const struct tap_test tests[] = {
        {"slices compare", slices},
        {"every error has a text", every_error_has_a_text},
        {"long messages end in dots", long_messages_end_in_dots},
        {"buffers keep their bytes in order", buffers_keep_their_bytes},
        {"a buffer does not copy its backlog for each piece that comes", a_backlog_is_not_copied_for_each_piece},
        {"a long backlog takes at most half as much again", a_long_backlog_takes_half_as_much_again},
        {"a failed append changes nothing", a_failed_append_changes_nothing},
        {"pools give memory back", pools_give_memory_back},
        {"pools keep warm blocks while they are needed", pools_keep_warm_blocks_while_they_are_needed},
        {"lists keep their order", lists},
        {"a text from outside cannot forge a log line", nobody_forges_a_log_line},
        {"fields follow the sentence", fields_follow_the_sentence},
        {"a field that does not fit is left out whole", long_fields_stay_whole},
        {"log lines of strangers have a budget", strangers_have_a_budget},
        {"clocks, uuids and constant-time comparison", clocks_and_chance},
        {NULL, NULL},
    };
    return tap_main("base", tests);
}
