//! What the process asks of the kernel for itself, before it holds a secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keep memory out of core dumps and away from other processes of the same user (`ptrace`, `/proc/PID/mem`). What the
/// kernel refuses is returned, to be said and lived with: a sandbox may have done more already.
///
/// It does not stop root.
pub fn keep_memory_private() -> Result<(), std::io::Error> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn memory_is_kept_out_of_dumps_and_from_other_processes() {
        keep_memory_private().unwrap();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    }
}
