#include "base/library.h"

#include <dlfcn.h>
#include <pthread.h>

static bool load(const struct ht_library *l) {
    void *handle = NULL;
    for (size_t i = 0; i < HT_ARRAY_LEN(l->files) && l->files[i] && !handle; i++)
        handle = dlopen(l->files[i], RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < l->n_functions && handle; i++)
        if (!(*l->functions[i].to = dlsym(handle, l->functions[i].name)))
            return false; /* another library of this name; it stays loaded, as nobody can tell who else has it */
    return handle != NULL;
}

bool ht_library_need(struct ht_library *l) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    if (l->state == HT_LIBRARY_UNKNOWN)
        l->state = load(l) ? HT_LIBRARY_THERE : HT_LIBRARY_MISSING;
    bool there = l->state == HT_LIBRARY_THERE;
    pthread_mutex_unlock(&lock);
    return there;
}
