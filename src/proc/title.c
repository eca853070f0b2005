#include "proc/title.h"

#include <stdio.h>
#include <string.h>

static char *area;
static size_t size;

void proc_title_begin(int argc, char **argv) {
    if (argc <= 0)
        return;
    area = argv[0];
    char *end = area;
    /* The kernel puts them one behind the other. */
    for (int i = 0; i < argc && argv[i] == end; i++)
        end += strlen(argv[i]) + 1;
    size = (size_t)(end - area);
}

void proc_title_set(const char *text) {
    if (size == 0)
        return;
    size_t n = strlen(text) < size ? strlen(text) : size - 1;
    memcpy(area, text, n);
    memset(area + n, 0, size - n);
}
