//! What `stockade help` prints about commands that make images.

/// `stockade help build` and so on.
pub const MADE: [(&str, &str); 4] = [
    ("build", "\
Builds an image as a Stockadefile says, which is a Dockerfile with one stage: FROM, RUN, COPY, ENV, LABEL, WORKDIR, USER,
CMD, ENTRYPOINT, EXPOSE, VOLUME, STOPSIGNAL, ARG. Anything else in it is refused. What a step comes to is kept in the
store, and is not done again while the base, the steps before it and what it copies are the same.

Usage: stockade build [FLAGS] [CONTEXT]

CONTEXT is the directory whose files can be copied (default: this one); its .dockerignore is honoured.

  -t, --tag NAME[:TAG]        the image's name; again: one more
  -f, --file FILE             (default: Stockadefile in CONTEXT, else Dockerfile; - for standard input)
      --build-arg NAME[=VALUE] the value of an ARG
      --no-cache              do every step anew
  -m, --cpus, --wall-time, --pids, --disk, --network, --volume and the like, as of `stockade run`: limits of each RUN.
                              By default it has no network, 1 GiB of disk and 262,144 files

Prints the image's id. What steps and programs say goes to standard error.
"),
    ("commit", "\
Makes an image of another with another configuration. (What a program changes in the root file system is committed by
`stockade run --image IMAGE --commit NAME`: there is no container that would wait for a second command.)

Usage: stockade commit [--change INSTRUCTION]... IMAGE NAME[:TAG]

  -c, --change INSTRUCTION    CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR, as in a Dockerfile

Prints the image's id.
"),
    ("diff", "\
Says what an image changes of another, or what its topmost layer changes of those below: A added, C changed, D deleted.
(What a program changes is said by `stockade run --diff`.)

Usage: stockade diff [--json] [BASE] IMAGE
"),
    ("export", "\
Writes the root file system of an image as one tar file, with every owner and device node that came with its layers.

Usage: stockade export [FLAGS] IMAGE >FILE, or: stockade export -o FILE [FLAGS] IMAGE

  -o, --output FILE           (default: standard output)
"),
];
