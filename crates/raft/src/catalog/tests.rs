//! The catalog's refusals, and its replacement under power cuts.

use super::*;
use crate::env::fake_disk::{FakeDisk, FakeDiskOptions};

const DIR: &str = "/node";

fn open(disk: &Arc<dyn Disk>, node: NodeId, cluster: &str) -> Result<Catalog, CatalogError> {
    Catalog::open(disk, Path::new(DIR), node, cluster)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(test)
}

#[test]
fn each_refusal_has_its_name() {
    let platters = FakeDisk::new(1, FakeDiskOptions::default());
    let disk = platters.mount();
    let catalog = open(&disk, 1, "blue").expect("a fresh directory");
    assert!(matches!(open(&disk, 1, "blue"), Err(CatalogError::Locked { .. })));
    drop(catalog);
    assert!(matches!(open(&disk, 2, "blue"), Err(CatalogError::OtherNode { theirs: 1, .. })));
    assert!(matches!(open(&disk, 1, "red"), Err(CatalogError::OtherCluster { .. })));
    let path = Path::new(DIR).join("catalog");
    let len = platters.content(&path).expect("written").len() as u64;
    for offset in 0..len {
        platters.flip(&path, offset, 1);
        let refused = open(&disk, 1, "blue").map(drop).expect_err("a flipped bit");
        assert!(matches!(refused, CatalogError::Damaged { .. }), "{refused}");
        platters.flip(&path, offset, 1);
    }
    disk.create(&Path::new(DIR).join("other")).expect("created");
    disk.remove(&path).expect("removed");
    assert!(matches!(open(&disk, 1, "blue"), Err(CatalogError::Foreign { .. })));
}

#[test]
fn it_is_replaced_whole() {
    for at in 0..12 {
        for seed in 0..20 {
            let platters = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            platters.fail_power_after(at);
            let disk = platters.mount();
            let voter = open(&disk, 1, "blue").is_ok_and(|catalog| run(catalog.set_voter()).is_ok());
            platters.crash();
            let found = open(&platters.mount(), 1, "blue").expect("a catalog").is_voter();
            assert!(found || !voter, "operation {at}: a voter forgot that it is one");
        }
    }
}

#[test]
fn a_real_directory_is_locked_and_must_be_writable() {
    use crate::env::os::OsDisk;
    let dir = tempfile::tempdir().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new().expect("a disk thread"));
    let data = dir.path().join("deep").join("data");
    let catalog = Catalog::open(&disk, &data, 1, "blue").expect("a fresh directory");
    run(catalog.set_voter()).expect("durable");
    let locked = Catalog::open(&disk, &data, 1, "blue").map(drop);
    assert!(matches!(locked, Err(CatalogError::Locked { .. })), "{locked:?}");
    drop(catalog);
    let catalog = Catalog::open(&disk, &data, 1, "blue").expect("our own directory");
    assert!(catalog.is_voter());
    std::fs::write(dir.path().join("file"), "x").expect("written");
    let refused = Catalog::open(&disk, &dir.path().join("file"), 1, "blue").map(drop);
    assert!(matches!(refused, Err(CatalogError::Unwritable { .. })), "{refused:?}");
}

#[test]
fn what_a_new_process_finds_survives_a_power_cut() {
    for at in 0..10 {
        for seed in 0..20 {
            let platters = FakeDisk::new(at << 8 | seed, FakeDiskOptions::default());
            platters.fail_once_after(at);
            if let Ok(catalog) = open(&platters.mount(), 1, "blue") {
                // It may fail; the process then dies.
                drop(run(catalog.set_voter()));
            }
            platters.kill();
            let found = open(&platters.mount(), 1, "blue").expect("a catalog").is_voter();
            platters.crash();
            let again = open(&platters.mount(), 1, "blue").expect("a catalog").is_voter();
            assert_eq!(found, again, "operation {at}, seed {seed}");
        }
    }
}
