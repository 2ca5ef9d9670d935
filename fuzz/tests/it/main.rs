//! The inputs that are kept, run in an ordinary build: seeds, and whatever once showed a mistake.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use fuzz::{TARGETS, find};

/// The target with a mistake on purpose, which has no seeds.
const PLANTED: &str = "planted";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn every_target_has_seeds_and_no_seed_is_without_a_target() -> io::Result<()> {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let mut seeded = names(&corpus())?;
    for target in &seeded {
        assert!(names(&corpus().join(target))?.len() > 1, "{target}");
    }
    seeded.insert(PLANTED.to_owned());
    assert_eq!(seeded, targets);
    Ok(())
}

#[test]
fn no_input_that_is_kept_shows_a_mistake() -> io::Result<()> {
    for target in names(&corpus())? {
        let folder = corpus().join(&target);
        let run = find(&target).unwrap().run;
        for input in names(&folder)? {
            let bytes = fs::read(folder.join(&input))?;
            let is_fine = std::panic::catch_unwind(|| run(&bytes)).is_ok();
            assert!(is_fine, "corpus/{target}/{input} shows a mistake; what it is stands above");
        }
    }
    Ok(())
}

#[test]
fn the_planted_mistake_is_one_and_hard_to_guess() {
    let run = find(PLANTED).unwrap().run;
    let planted = |length: u8| [&[length][..], b"planted:", &0x5eed_cafe_u32.to_be_bytes(), b"abc"].concat();
    assert!(std::panic::catch_unwind(|| run(&planted(3))).is_err());
    for fine in [planted(4), planted(3)[..14].to_vec(), b"planted:".to_vec(), Vec::new()] {
        run(&fine);
    }
}
