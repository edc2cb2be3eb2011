//! What AppArmor has against this process, for the texts of errors: its own are EPERM and EACCES, at whatever step.

use std::fs;

/// Ubuntu's switch: who has no profile gets no rights in a user namespace that he makes.
const SWITCH: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// That a profile confines this program, if one does.
pub(crate) fn confined() -> Option<String> {
    profile().map(|profile| format!("AppArmor's profile `{profile}` confines this program"))
}

/// What may have been AppArmor's doing when a step in a user namespace is denied, and what to do about it; `None` if
/// AppArmor lets this process be.
pub(crate) fn advice() -> Option<String> {
    let what = confined().or_else(|| {
        restricts().then(|| {
            "AppArmor gives user namespaces no rights here (kernel.apparmor_restrict_unprivileged_userns)".into()
        })
    })?;
    Some(format!(
        "{what}: install the profile that Stockade brings (share/stockade/apparmor; `stockade doctor` prints one), or run \
         with isolation=restrict, without user namespaces and with less"
    ))
}

fn restricts() -> bool {
    !nix::unistd::geteuid().is_root()
        && fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "1")
}

/// The profile that holds this thread, if one does that denies anything.
fn profile() -> Option<String> {
    let files = [
        "/proc/thread-self/attr/apparmor/current",
        "/proc/thread-self/attr/current",
    ];
    let label = files
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())?;
    confining(&label).map(str::to_string)
}

/// From the label of a process, the name of the profile, if one denies what its rules do not allow. Other security
/// modules have labels without a mode.
pub(crate) fn confining(label: &str) -> Option<&str> {
    let label = label.trim_end_matches(['\n', '\0']);
    ["enforce", "kill", "mixed"].iter().find_map(|mode| {
        label
            .strip_suffix(')')?
            .strip_suffix(mode)?
            .strip_suffix(" (")
    })
}

/// The text of a profile that lets one program make user namespaces, and the name of the profile and of its file.
pub(crate) fn profile_for(program: &str) -> (String, String) {
    let shipped = include_str!("../contrib/data/share/stockade/apparmor/stockade-program");
    let name = format!("stockade{}", program.replace('/', "."));
    let name: String = name
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | '+' => c,
            _ => '_',
        })
        .collect();
    // What a pattern would take for more than itself.
    let mut path = String::new();
    for c in program.chars() {
        if "*?[]{}^,\\\"@".contains(c) {
            path.push('\\');
        }
        path.push(c);
    }
    let lines: Vec<String> = shipped
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            line.replace("stockade-program", &name)
                .replace("/path/to/PROGRAM", &path)
        })
        .collect();
    (name, lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for (label, name) in [
            ("docker-default (enforce)\n", Some("docker-default")),
            (
                "a//&unprivileged_userns (enforce)",
                Some("a//&unprivileged_userns"),
            ),
            ("x (kill)\0", Some("x")),
            ("unconfined\n", None),
            ("stockade (unconfined)\n", None),
            ("x (complain)\n", None),
            (
                "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\0",
                None,
            ),
            ("", None),
        ] {
            assert_eq!(confining(label), name, "{label}");
        }
    }

    #[test]
    fn a_profile_is_for_one_path_and_named_after_it() {
        let (name, text) = profile_for("/opt/a b/judge{1}");
        assert_eq!(name, "stockade.opt.a_b.judge_1_");
        assert!(
            text.contains(
                r#"profile stockade.opt.a_b.judge_1_ "/opt/a b/judge\{1\}" flags=(unconfined) {"#
            ),
            "{text}"
        );
        assert!(
            text.contains("include if exists <local/stockade.opt.a_b.judge_1_>"),
            "{text}"
        );
    }
}
