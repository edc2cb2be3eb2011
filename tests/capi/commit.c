/* A live sandbox as an image, and as a tar stream. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char place[] = "/tmp/stockade-commit-XXXXXX";

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

/* An image of which the program itself is a volume. */
static stockade_spec *in_image(const char *image, const char *script)
{
    stockade_spec *spec = shell(script);
    CHECK(stockade_spec_set_image(spec, image) == STOCKADE_OK);
    CHECK(stockade_spec_set_store(spec, at("store")) == STOCKADE_OK);
    CHECK(stockade_spec_add_volume(spec, "/usr", "/usr", 0) == STOCKADE_OK);
    return spec;
}

static long size_of(const char *path)
{
    struct stat seen;
    CHECK(stat(path, &seen) == 0);
    return (long)seen.st_size;
}

static bool all(stockade_store *store)
{
    stockade_spec *spec = in_image("base", "echo new > /srv/new; echo out > /work/out"), *other;
    stockade_sandbox *sandbox = NULL, *again = NULL;
    stockade_outcome *outcome = NULL;
    stockade_changes *changes = NULL;
    stockade_image *image = NULL, *held = NULL;
    char *json = NULL;
    int fd, ends[2];

    WORKS(stockade_sandbox_start(spec, &sandbox, &failed));
    WORKS(stockade_sandbox_run(sandbox, spec, &outcome, &failed));
    CHECK(stockade_outcome_verdict(outcome) == STOCKADE_VERDICT_OK);
    stockade_outcome_free(outcome);
    if (stockade_sandbox_changes(sandbox, &changes, NULL) == STOCKADE_ERROR_UNSUPPORTED) {
        /* A copy, where no overlay can be had: it has no changes of its own. */
        FAILS(stockade_sandbox_commit(sandbox, NULL, NULL, &json, &failed), STOCKADE_ERROR_UNSUPPORTED, "copy");
        stockade_sandbox_free(sandbox);
        stockade_spec_free(spec);
        return false;
    }
    stockade_changes_free(changes);

    WORKS(stockade_sandbox_commit(sandbox, "new:1", "{\"changes\": [\"CMD [\\\"x\\\"]\"], \"message\": \"m\"}", &json, &failed));
    check_json(json, "\"Cmd\":[\"x\"]");
    WORKS(stockade_store_inspect(store, "new:1", &json, &failed));
    check_json(json, "\"comment\":\"m\"");
    FAILS(stockade_sandbox_commit(sandbox, NULL, "{\"changed\": []}", &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "changed");
    CHECK(json == NULL);
    FAILS(stockade_sandbox_commit(sandbox, NULL, "{\"changes\": [\"RUN x\"]}", &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "RUN x");
    WORKS(stockade_store_diff(store, "new:1", NULL, &changes, &failed));
    CHECK(stockade_changes_count(changes) == 2);
    CHECK_TEXT(stockade_changes_path(changes, 1), "/srv/new");
    CHECK(stockade_changes_kind(changes, 1) == 'A');
    stockade_changes_free(changes);
    WORKS(stockade_store_diff(store, "base", "new:1", &changes, &failed));
    CHECK(stockade_changes_kind(changes, 1) == 'D');
    stockade_changes_free(changes);

    WORKS(stockade_sandbox_snapshot(sandbox, &image, &failed));
    other = in_image(stockade_image_id(image), "cat /srv/new");
    WORKS(stockade_sandbox_start(other, &again, &failed));
    WORKS(stockade_sandbox_run(again, other, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "new\n");
    stockade_outcome_free(outcome);
    WORKS(stockade_store_resolve(store, "new:1", &held, &failed));
    stockade_image_free(held);
    FAILS(stockade_store_resolve(store, "none", &held, &failed), STOCKADE_ERROR_NOT_FOUND, "none");
    CHECK(held == NULL);
    stockade_image_free(image);
    stockade_image_free(NULL);
    CHECK(stockade_image_id(NULL) == NULL);

    fd = open(at("out.tar"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    WORKS(stockade_sandbox_export(sandbox, "out", fd, &failed));
    CHECK(close(fd) == 0);
    CHECK(size_of(at("out.tar")) == 2048);
    fd = open(at("root.tar"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    WORKS(stockade_store_export(store, "new:1", fd, NULL, NULL, &failed));
    CHECK(close(fd) == 0);
    CHECK(size_of(at("root.tar")) > 2048);
    FAILS(stockade_sandbox_export(sandbox, "none", 1, &failed), STOCKADE_ERROR_SETUP, "none");
    FAILS(stockade_sandbox_export(sandbox, "out", -1, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "fd");
    /* Nobody reads it: an error, no signal. */
    CHECK(pipe(ends) == 0 && close(ends[0]) == 0);
    FAILS(stockade_sandbox_export(sandbox, "out", ends[1], &failed), STOCKADE_ERROR_SETUP, "Broken pipe");
    CHECK(close(ends[1]) == 0);

    stockade_sandbox_free(again);
    stockade_sandbox_free(sandbox);
    FAILS(stockade_sandbox_snapshot(NULL, &image, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "sandbox");
    stockade_spec_free(spec);
    stockade_spec_free(other);
    return true;
}

struct seen {
    int steps, cached;
    size_t output;
    bool stop;
};

static int watch(const char *step, uint64_t number, uint64_t total, bool cached, const void *output, size_t length, void *data)
{
    struct seen *seen = data;
    if (step != NULL) {
        seen->steps++;
        seen->cached += cached;
        CHECK(number >= 1 && number <= total && length == 0);
    } else {
        CHECK(length == 0 || memchr(output, 'h', length) != NULL);
        seen->output += length;
    }
    return seen->stop;
}

static void build(stockade_store *store)
{
    static const char request[] =
        "{\"from\": \"base\", \"names\": [\"built:1\"], \"spec\": {\"volumes\": [\"/usr:/usr\"], \"wall_time\": 30},"
        " \"steps\": [\"ENV A=hey\", {\"files\": {\"/srv/file\": \"given\"}}, \"RUN echo $A; echo ran > /srv/ran\","
        " {\"cmd\": [\"/bin/cat\", \"/srv/file\", \"/srv/ran\"]}]}";
    struct seen seen = {0, 0, 0, false};
    char *json = NULL;
    stockade_spec *spec = in_image("built:1", "");
    const char *const none[] = {NULL};
    stockade_outcome *outcome = NULL;

    WORKS(stockade_store_build(store, request, watch, &seen, &json, &failed));
    check_json(json, "\"names\":[\"built:1\"]");
    CHECK(seen.steps == 4 && seen.cached == 2 && seen.output == 4);
    WORKS(stockade_store_build(store, request, watch, &seen, &json, &failed));
    stockade_string_free(json);
    CHECK(seen.steps == 8 && seen.cached == 6 && seen.output == 4);
    CHECK(stockade_spec_set_args(spec, none) == STOCKADE_OK);
    WORKS(stockade_spec_run(spec, &outcome, &failed));
    CHECK_TEXT(stockade_outcome_stdout(outcome, NULL), "givenran\n");
    stockade_outcome_free(outcome);
    stockade_spec_free(spec);

    seen.stop = true;
    FAILS(stockade_store_build(store, request, watch, &seen, &json, &failed), STOCKADE_ERROR_STATE, "called off");
    CHECK(json == NULL);
    WORKS(stockade_store_build(store, "{\"file\": \"FROM base\\nUSER x\"}", NULL, NULL, &json, &failed));
    check_json(json, "\"User\":\"x\"");
    FAILS(stockade_store_build(store, "{\"file\": \"FROM base\\nADD x\", \"file_name\": \"F\"}", NULL, NULL, &json, &failed),
          STOCKADE_ERROR_INVALID_ARGUMENT, "F:2: ");
    FAILS(stockade_store_build(store, "{\"steps\": []}", NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "`from`");
    FAILS(stockade_store_build(store, NULL, NULL, NULL, &json, &failed), STOCKADE_ERROR_INVALID_ARGUMENT, "request");
}

int main(void)
{
    stockade_store *store = NULL;
    char *json = NULL;
    char command[sizeof place + 30];
    const char *const links[] = {"bin", "lib", "lib64"};
    size_t i;

    CHECK(mkdtemp(place) != NULL);
    CHECK(mkdir(at("rootfs"), 0755) == 0 && mkdir(at("rootfs/srv"), 0755) == 0);
    for (i = 0; i < 3; i++) {
        char target[20], path[20];
        snprintf(target, sizeof target, "usr/%s", links[i]);
        snprintf(path, sizeof path, "rootfs/%s", links[i]);
        CHECK(symlink(target, at(path)) == 0);
    }
    WORKS(stockade_store_open(at("store"), &store, &failed));
    WORKS(stockade_store_import(store, at("rootfs"), "base", NULL, NULL, NULL, &json, &failed));
    stockade_string_free(json);
    if (all(store))
        build(store);
    stockade_store_free(store);
    snprintf(command, sizeof command, "rm -rf %s", place);
    return system(command) == 0 ? 0 : 1;
}
