//! Files in and out: what a hostile program leaves cannot mislead the collecting of it.

use crate::support::{guest_dir, guest_spec, run_guest};
use stockade::{ErrorKind, File, Spec, Verdict};

#[test]
fn given_files_have_content_mode_and_owner() {
    let mut spec = guest_spec(["ls", "/work/deep/er"]);
    spec.files.insert(
        "deep/er/run".into(),
        File {
            content: (&b"#!"[..]).into(),
            mode: Some(0o750),
        },
    );
    spec.files.insert("/tmp/abs".into(), File::default());
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.stdout.to_text(), "run file 750 0:0 \n");
    // They are the program's own: it may change and remove them.
    let outcome = guest_spec(["write-file", "/work/a/b", "5"])
        .file("a/b", "old content")
        .collect("a/b")
        .run()
        .expect("starts");
    assert_eq!(
        (outcome.verdict, &*outcome.outputs["a/b"].content),
        (Verdict::Ok, &[0u8; 5][..])
    );
}

#[test]
fn large_files_go_in_and_come_out() {
    let content: Vec<u8> = (0..9_000_000u32).map(|i| (i % 253) as u8).collect();
    let outcome = guest_spec(["true"])
        .file("big", &content)
        .collect("big")
        .run()
        .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::Ok, "{:?}", outcome.message);
    assert!(
        *outcome.outputs["big"].content == *content,
        "it is not what went in"
    );
}

#[test]
fn only_regular_files_are_collected() {
    paths_hold();
}

pub fn paths_hold() {
    let cases: [(&[&str], &str); 6] = [
        (&["link", "/etc/passwd", "/work/out"], "out"),
        (&["link", "/proc/self/environ", "/work/out"], "out"),
        (&["link", "/etc", "/work/dir"], "dir/passwd"),
        (&["fifo", "/work/out"], "out"),
        (&["mkdir", "/work/out"], "out"),
        (&["true"], "missing"),
    ];
    for (args, path) in cases {
        let outcome = guest_spec(args)
            .collect(path)
            .run()
            .expect("the sandbox starts");
        assert_eq!(outcome.verdict, Verdict::Ok, "{outcome:?}");
        let file = &outcome.outputs[path];
        assert!(
            file.content.is_empty() && file.error.is_some(),
            "{args:?}: {file:?}"
        );
    }
}

#[test]
fn collected_files_are_cut_at_the_cap() {
    let mut spec = guest_spec(["sparse", "/work/out", "3g"]).collect("out");
    spec.output_file_size = Some(1000);
    let file = spec
        .run()
        .expect("the sandbox starts")
        .outputs
        .remove("out")
        .expect("out");
    assert_eq!(
        (file.content.len(), file.size, file.truncated, file.error),
        (1000, 3 << 30, true, None)
    );
}

#[test]
fn files_are_collected_after_every_kind_of_end() {
    let outcome = guest_spec(["sleep", "20"])
        .file("kept", "content")
        .collect("kept")
        .wall_time(std::time::Duration::from_millis(200))
        .run()
        .expect("the sandbox starts");
    assert_eq!(outcome.verdict, Verdict::WallTimeLimit);
    assert_eq!(&*outcome.outputs["kept"].content, b"content");
}

#[test]
fn more_files_than_the_disk_holds_is_an_error_in_words() {
    let content = vec![0u8; 4 << 20];
    match guest_spec(["true"])
        .disk(1 << 20)
        .file("big", content)
        .run()
    {
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Setup),
            "{error:?}"
        ),
        Ok(outcome) => panic!("{outcome:?}"),
    }
    assert_eq!(run_guest(["true"]).verdict, Verdict::Ok);
}

#[test]
fn a_given_file_can_be_the_program() {
    let guest = std::fs::read(guest_dir().join("guest")).expect("the guest");
    let mut spec = Spec::new(["./tool", "say", "run from /work"]);
    let file = File {
        content: guest.into(),
        mode: Some(0o755),
    };
    spec.files.insert("tool".into(), file);
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(outcome.stdout.to_text(), "run from /work\n", "{outcome:?}");
}

#[test]
fn many_files_and_variables_arrive() {
    let mut spec = guest_spec(["ls", "/work/many"]);
    for number in 0..500 {
        spec = spec
            .file(format!("many/{number:03}"), vec![b'x'; number])
            .env(format!("NAME_{number}"), "value")
            .collect(format!("many/{number:03}"));
    }
    let outcome = spec.run().expect("the sandbox starts");
    assert_eq!(
        outcome.stdout.to_text().lines().count(),
        500,
        "{:?}",
        outcome.message
    );
    assert!(
        (0..500)
            .all(|number| outcome.outputs[&format!("many/{number:03}")].content.len() == number)
    );
    spec.args = ["/guest/guest", "env"].iter().map(Into::into).collect();
    assert_eq!(
        spec.run().expect("starts").stdout.to_text().lines().count(),
        500
    );
}
