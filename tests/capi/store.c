/* The store of images. */
#include "check.h"

#include <sys/stat.h>

static char place[] = "/tmp/stockade-store-XXXXXX";

/* A path in the place of this test. The last few stay valid. */
static const char *at(const char *name)
{
    static char paths[4][300];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", place, name);
    return path;
}

static void check_json(char *json, const char *has)
{
    if (json == NULL || strstr(json, has) == NULL) {
        fprintf(stderr, "\"%s\" is not in \"%s\"\n", has, json ? json : "(null)");
        exit(1);
    }
    stockade_string_free(json);
}

static int progress(const char *what, uint64_t done, uint64_t total, void *data)
{
    CHECK_TEXT(what, "root file system");
    CHECK(total == 0 || done <= total);
    ++*(int *)data;
    return 0;
}

static int stop(const char *what, uint64_t done, uint64_t total, void *data)
{
    (void)what, (void)done, (void)total;
    ++*(int *)data;
    return 1;
}

static void in_and_out(void)
{
    stockade_store *store = NULL, *other = NULL;
    int calls = 0;
    char *json = NULL;

    WORKS(stockade_store_open(at("store"), &store, &failed));
    WORKS(stockade_store_import(store, at("rootfs"), "some/name:1", "{\"Cmd\": [\"/bin/sh\"]}", progress, &calls, &json, &failed));
    check_json(json, "\"names\":[\"some/name:1\"]");
    CHECK(calls > 0);
    WORKS(stockade_store_inspect(store, "name:1", &json, &failed));
    check_json(json, "\"Cmd\":[\"/bin/sh\"]");
    WORKS(stockade_store_tag(store, "name:1", "other", &failed));
    WORKS(stockade_store_list(store, &json, &failed));
    check_json(json, "\"names\":[\"other:latest\",\"some/name:1\"]");

    WORKS(stockade_store_save(store, "other", "oci-archive", at("saved"), NULL, NULL, &failed));
    WORKS(stockade_store_open(at("second"), &other, &failed));
    WORKS(stockade_store_load(other, at("saved"), NULL, "more:2", NULL, NULL, &json, &failed));
    check_json(json, "\"names\":[\"more:2\",\"other:latest\"]");
    WORKS(stockade_store_verify(other, &json, &failed));
    check_json(json, "\"layers\":1,\"problems\":[]");
    stockade_store_free(other);

    WORKS(stockade_store_remove(store, "other", &json, &failed));
    check_json(json, "\"names\":[\"other:latest\"],\"images\":[]");
    WORKS(stockade_store_prune(store, true, &json, &failed));
    check_json(json, "\"names\":[\"some/name:1\"],\"images\":[\"sha256:");
    WORKS(stockade_store_disk_use(store, &json, &failed));
    check_json(json, "{\"images\":0,\"blobs\":0,\"layers\":0,\"temporary\":0,\"reclaimable\":0}");
    stockade_store_free(store);
}

static void errors(void)
{
    stockade_store *store = NULL;
    char *json = NULL;
    int calls = 0;

    FAILS(stockade_store_open(at("rootfs/file"), &store, &failed), STOCKADE_ERROR_SETUP, "rootfs/file");
    FAILS(stockade_store_list(NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`store` is NULL");
    WORKS(stockade_store_open(at("store"), &store, &failed));
    FAILS(stockade_store_inspect(store, "nothing", &json, &failed), STOCKADE_ERROR_NOT_FOUND, "nothing");
    CHECK(json == NULL);
    FAILS(stockade_store_load(store, at("rootfs/file"), NULL, NULL, NULL, NULL, &json, &failed), STOCKADE_ERROR_IMAGE, "tar");
    FAILS(stockade_store_load(store, NULL, NULL, NULL, NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`path` is NULL");
    FAILS(stockade_store_import(store, at("rootfs"), NULL, "{", NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "config");
    FAILS(stockade_store_import(store, at("rootfs"), NULL, NULL, stop, &calls, &json, &failed), STOCKADE_ERROR_STATE, "called off");
    CHECK(calls == 1);
    FAILS(stockade_store_save(store, "x", "zip", at("x"), NULL, NULL, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "zip");
    stockade_store_free(store);
    stockade_store_free(NULL);
}

int main(void)
{
    FILE *file;
    char command[sizeof place + 10];

    CHECK(mkdtemp(place) != NULL);
    CHECK(mkdir(at("rootfs"), 0755) == 0);
    file = fopen(at("rootfs/file"), "w");
    CHECK(file != NULL);
    fprintf(file, "%1000s\n", "hello");
    CHECK(fclose(file) == 0);
    in_and_out();
    errors();
    snprintf(command, sizeof command, "rm -rf %s", place);
    return system(command) == 0 ? 0 : 1;
}
