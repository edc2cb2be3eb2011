//! What the targets share: a place to work in, and the part of the helper (`src/init`) that reads plans, which is no
//! part of the library.

#[allow(dead_code, unused_imports)]
mod mem;
#[allow(dead_code, unused_imports)]
mod plan;
#[allow(dead_code, unused_imports)]
mod sys;
#[allow(dead_code, unused_imports)]
mod wire;

use std::path::PathBuf;

/// A new directory of this process's own, in `$TMPDIR`: in memory, if scripts/fuzz.sh has set it.
pub fn directory() -> PathBuf {
    let path = std::env::temp_dir().join(format!("stockade-fuzz.{}", std::process::id()));
    std::fs::create_dir(&path).expect("a directory of our own");
    path
}

/// Reads a message as the supervisor and init read it: how many steps there are. `whole`: it is one of the library's
/// making, and has to be read to its end.
pub fn read_plan(message: &mut [u8], whole: bool) -> usize {
    let mut scratch = message.to_vec();
    let Ok(mut plan) = plan::Plan::new(&mut scratch, None) else {
        assert!(!whole);
        return 0;
    };
    let head = plan.head;
    let mut count = 0;
    let sections = [head.template, head.setup, head.limits, head.run];
    for section in sections {
        let (mut steps, mut end) = (Vec::new(), section.offset as usize);
        for (step, payload) in plan.steps(section) {
            assert_eq!(payload.len(), step.len);
            let _ = plan::text(payload);
            if let Ok((first, rest)) = plan::pair(payload) {
                assert_eq!(first.bytes().len() + 1 + rest.len(), payload.len());
            }
            end = step.at + step.len.next_multiple_of(8);
            steps.push(step);
        }
        if whole {
            assert_eq!(end, section.offset as usize + section.len as usize);
        }
        // Inside the plan, or it would end the helper.
        for step in &steps {
            plan.payload(step);
        }
        count += steps.len();
    }
    plan.free();
    count
}
