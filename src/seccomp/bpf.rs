//! From a profile to a classic BPF program.
//!
//! Installing a filter makes the kernel verify, translate and compile each instruction, and then run the program
//! once for every system call number to learn which ones it always allows. So both the length and the average
//! depth count: neighbouring numbers with one verdict are merged into runs, and the runs are searched by halves of
//! the numbers. (The optimal tree, found by dynamic programming, is a tenth shorter and saves 2 us of 37, but takes
//! four times as long to build.)
//!
//! Code is laid down from its end to its beginning: jumps only go forward and reach at most 255 instructions, and
//! this way every target is in place, and its distance known, before the jump to it is made.

use super::custom::{Condition, Custom, Decision, Op};
use super::profile::{Action, Check, Profile, Test, Verdict};
use super::syscalls::{Arch, X32_BIT};
use libc::sock_filter;

/// `seccomp_data` as the program sees it: `nr`, `arch`, `instruction_pointer`, then six 64-bit arguments, whose
/// low half comes first on the (little-endian) machines Stockade runs on.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// The filter for `arch` that carries out `profile` and kills on any other ABI.
pub(super) fn program(arch: &Arch, profile: &Profile) -> Vec<sock_filter> {
    assemble(arch, profile.verdicts(), &[])
}

/// The same for a profile of the caller's.
pub(super) fn custom_program(arch: &Arch, custom: &Custom, huge_pages: bool) -> Vec<sock_filter> {
    let (verdicts, decisions) = custom.verdicts(arch, huge_pages);
    let absent = Verdict::Act(Action::Errno(libc::ENOSYS));
    let verdict = |name: Option<&str>| name.and_then(|name| verdicts.get(name).copied());
    assemble(arch, |name| verdict(name).unwrap_or(absent), &decisions)
}

fn assemble(
    arch: &Arch,
    verdict: impl Fn(Option<&str>) -> Verdict,
    decisions: &[Decision],
) -> Vec<sock_filter> {
    let runs = runs(arch, verdict);
    let mut code = Code {
        decisions,
        ..Code::default()
    };
    let tree = code.tree(&runs);
    code.load(NR, tree);
    let ours = code.here();
    let kill = code.ret(libc::SECCOMP_RET_KILL_PROCESS);
    let check = code.jump(libc::BPF_JEQ, arch.audit, ours, kill);
    code.load(ARCH, check);
    code.finish()
}

/// What a run of numbers leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Verdict(Verdict),
    /// Past all known numbers: no such call, or x32.
    PastX32,
}

/// Consecutive numbers with one leaf: from `first` up to the next run, the last one without end.
struct Run {
    first: u32,
    leaf: Leaf,
}

fn runs(arch: &Arch, verdict: impl Fn(Option<&str>) -> Verdict) -> Vec<Run> {
    let unknown = Leaf::Verdict(verdict(None));
    let mut runs: Vec<Run> = Vec::new();
    let mut push = |first, leaf| {
        if runs.last().is_none_or(|last| last.leaf != leaf) {
            runs.push(Run { first, leaf });
        }
    };
    let mut next = 0;
    for (nr, name) in arch.calls() {
        if nr > next {
            push(next, unknown);
        }
        push(nr, Leaf::Verdict(verdict(Some(name))));
        next = nr + 1;
    }
    push(next, if arch.x32 { Leaf::PastX32 } else { unknown });
    runs
}

/// Whether these runs are numbers of one leaf with one or two exceptions, single numbers of another: then comparing
/// with those is shorter than a search for both ends of each.
fn few_exceptions(runs: &[Run]) -> bool {
    let exceptions = runs.iter().skip(1).step_by(2);
    let mut pairs = exceptions.zip(runs.iter().skip(2).step_by(2));
    matches!(runs.len(), 3 | 5)
        && pairs.all(|(one, next)| next.leaf == runs[0].leaf && next.first == one.first + 1)
}

/// Index of the run to search from, or below: the one nearest to the middle of the numbers.
fn middle(runs: &[Run]) -> usize {
    let middle = u32::midpoint(runs[0].first, runs[runs.len() - 1].first);
    (1..runs.len())
        .min_by_key(|&at| runs[at].first.abs_diff(middle))
        .expect("two runs or more have a middle")
}

/// An instruction, by how many there are from it to the end of the program.
type Label = usize;

/// Instructions, last one first.
#[derive(Default)]
struct Code<'a> {
    reversed: Vec<sock_filter>,
    /// Leaves with a check that are already there.
    checks: Vec<(&'static Check, Label)>,
    decisions: &'a [Decision],
}

impl Code<'_> {
    /// The farthest target to be used. One less than an offset holds: see `jump`.
    const REACH: usize = 254;

    /// The search for the leaf of a number that lies in these runs.
    fn tree(&mut self, runs: &[Run]) -> Label {
        if let [run] = runs {
            self.leaf(run.leaf)
        } else if few_exceptions(runs) {
            let mut otherwise = self.leaf(runs[0].leaf);
            for run in runs.iter().skip(1).step_by(2) {
                let leaf = self.leaf(run.leaf);
                otherwise = self.jump(libc::BPF_JEQ, run.first, leaf, otherwise);
            }
            otherwise
        } else {
            let (below, above) = runs.split_at(middle(runs));
            let first = above[0].first;
            let above = self.tree(above);
            let below = self.tree(below);
            self.jump(libc::BPF_JGE, first, above, below)
        }
    }

    fn leaf(&mut self, leaf: Leaf) -> Label {
        match leaf {
            Leaf::Verdict(Verdict::Act(action)) => self.act(action),
            Leaf::Verdict(Verdict::Ask(check)) => self.check(check),
            Leaf::Verdict(Verdict::Decide(which)) => self.decide(&self.decisions[which]),
            Leaf::PastX32 => {
                let absent = self.errno(libc::ENOSYS);
                let kill = self.ret(libc::SECCOMP_RET_KILL_PROCESS);
                // -1 has the bit as well; it is what a tracer puts there to have a call skipped.
                let x32 = self.jump(libc::BPF_JEQ, u32::MAX, absent, kill);
                self.jump(libc::BPF_JSET, X32_BIT, x32, absent)
            }
        }
    }

    fn check(&mut self, check: &'static Check) -> Label {
        if let Some(&(_, label)) = self.checks.iter().find(|(c, _)| *c == check) {
            return label;
        }
        let allow = self.ret(libc::SECCOMP_RET_ALLOW);
        let label = self.ask(check, allow);
        self.checks.push((check, label));
        label
    }

    /// Goes on at `pass` if the check lets the call through.
    fn ask(&mut self, check: &'static Check, pass: Label) -> Label {
        let deny = self.errno(check.errno);
        let (op, values, hit, mut miss) = match &check.test {
            Test::Lacks(mask) => (libc::BPF_JSET, std::slice::from_ref(mask), deny, pass),
            Test::Among(values) => (libc::BPF_JEQ, *values, pass, deny),
            Test::Outside(values) => (libc::BPF_JEQ, *values, deny, pass),
        };
        for &value in values {
            miss = self.jump(op, value, hit, miss);
        }
        self.load(ARGS + 8 * check.arg, miss)
    }

    fn decide(&mut self, decision: &Decision) -> Label {
        let mut next = self.act(decision.otherwise);
        for rule in decision.rules.iter().rev() {
            let mut then = self.act(rule.action);
            for condition in rule.conditions.iter().rev() {
                then = self.condition(condition, then, next);
            }
            next = then;
        }
        match decision.floor {
            Some(check) => self.ask(check, next),
            None => next,
        }
    }

    /// Compares both halves of an argument, the low one only if nothing of the other is asked for.
    fn condition(&mut self, condition: &Condition, holds: Label, fails: Label) -> Label {
        let (op, yes, no) = match condition.op {
            Op::Equal => (libc::BPF_JEQ, holds, fails),
            Op::NotEqual => (libc::BPF_JEQ, fails, holds),
            Op::Greater => (libc::BPF_JGT, holds, fails),
            Op::LessOrEqual => (libc::BPF_JGT, fails, holds),
            Op::GreaterOrEqual => (libc::BPF_JGE, holds, fails),
            Op::Less => (libc::BPF_JGE, fails, holds),
        };
        let (low, high) = (condition.value as u32, (condition.value >> 32) as u32);
        let masks = (condition.mask as u32, (condition.mask >> 32) as u32);
        let at = ARGS + 8 * condition.arg;
        let compare = self.jump(op, low, yes, no);
        let masked = self.and(masks.0, compare);
        let low = self.load(at, masked);
        if masks.1 == 0 && high == 0 {
            return low;
        }
        let mut compare = self.jump(libc::BPF_JEQ, high, low, no);
        if op != libc::BPF_JEQ {
            compare = self.jump(libc::BPF_JGT, high, yes, compare);
        }
        let masked = self.and(masks.1, compare);
        self.load(at + 4, masked)
    }

    /// Keeps the loaded word's bits in `mask`, and goes on at `next`, which was laid down last.
    fn and(&mut self, mask: u32, next: Label) -> Label {
        if mask == u32::MAX {
            return next;
        }
        debug_assert_eq!(next, self.here());
        let op = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
        self.push(instruction(op, mask, 0, 0))
    }

    fn act(&mut self, action: Action) -> Label {
        self.ret(match action {
            Action::Allow => libc::SECCOMP_RET_ALLOW,
            Action::Log => libc::SECCOMP_RET_LOG,
            Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | errno as u32,
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        })
    }

    fn errno(&mut self, errno: i32) -> Label {
        self.ret(libc::SECCOMP_RET_ERRNO | errno as u32)
    }

    /// A `RET action`: one that is near, or a new one.
    fn ret(&mut self, action: u32) -> Label {
        let ret = instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0);
        let same = |old: &sock_filter| (old.code, old.k) == (ret.code, ret.k);
        let near = self.reversed.iter().rev().take(Self::REACH);
        match near.enumerate().find(|(_, old)| same(old)) {
            Some((distance, _)) => self.here() - distance,
            None => self.push(ret),
        }
    }

    /// A load of the word at `offset` that goes on at `next`.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        let distance = self.here() - next;
        if distance > 0 {
            self.push(instruction(
                libc::BPF_JMP | libc::BPF_JA,
                distance as u32,
                0,
                0,
            ));
        }
        let op = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        self.push(instruction(op, offset, 0, 0))
    }

    /// A jump to `yes` if the loaded word compares with `k`, else to `no`.
    fn jump(&mut self, op: u32, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes);
        // This may put one more instruction before `yes`, for which REACH leaves room.
        let no = self.near(no);
        let offset = |target| u8::try_from(self.here() - target).expect("the target is near");
        let jump = instruction(libc::BPF_JMP | op | libc::BPF_K, k, offset(yes), offset(no));
        self.push(jump)
    }

    /// A target that the next instruction can jump to and that has the effect of `target`.
    fn near(&mut self, target: Label) -> Label {
        let distance = self.here() - target;
        if distance <= Self::REACH {
            return target;
        }
        let there = self.reversed[target - 1];
        if u32::from(there.code) & 0x07 == libc::BPF_RET {
            self.push(there)
        } else {
            self.push(instruction(
                libc::BPF_JMP | libc::BPF_JA,
                distance as u32,
                0,
                0,
            ))
        }
    }

    fn push(&mut self, instruction: sock_filter) -> Label {
        self.reversed.push(instruction);
        self.here()
    }

    /// The instruction laid down last, which is the one after the next to be laid down.
    fn here(&self) -> Label {
        self.reversed.len()
    }

    fn finish(mut self) -> Vec<sock_filter> {
        self.reversed.reverse();
        self.reversed
    }
}

/// The codes are 16 bits wide in the program and 32 in libc's constants.
fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}
