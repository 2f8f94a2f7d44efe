//! The descriptor set: the contract, the details of its statuses, and what both import. For reflection, and for proxies and
//! tools that turn the messages into JSON.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use super::proto;

/// Each file once and after those that it imports, as readers of a set expect (`protoc --include_imports`). Fails only where
/// what was compiled in is damaged.
pub(crate) fn descriptor_set() -> Result<Vec<u8>, DecodeError> {
    let mut files = Vec::new();
    for set in [proto::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET] {
        files.extend(FileDescriptorSet::decode(set)?.file.into_iter().map(in_its_folder));
    }
    Ok(FileDescriptorSet { file: imports_first(files) }.encode_to_vec())
}

/// tonic-types names the files of `google.rpc` without their folder. Tools that know these files under their own names would
/// see them twice.
fn in_its_folder(mut file: FileDescriptorProto) -> FileDescriptorProto {
    if file.package() == "google.rpc" && !file.name().contains('/') {
        file.name = Some(format!("google/rpc/{}", file.name()));
    }
    file
}

/// In each round at least one file is ready, since imports have no circles. Where none is, an import is missing from the set:
/// the rest is added as it is, so that the loop ends.
fn imports_first(mut files: Vec<FileDescriptorProto>) -> Vec<FileDescriptorProto> {
    let mut ordered = Vec::new();
    let mut seen = BTreeSet::new();
    while !files.is_empty() {
        let (ready, later): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.dependency.iter().all(|import| seen.contains(import)));
        if ready.is_empty() {
            ordered.extend(later);
            break;
        }
        ordered.extend(ready.into_iter().filter(|file| seen.insert(file.name().to_owned())));
        files = later;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there_once_and_after_its_imports() {
        let set = FileDescriptorSet::decode(descriptor_set().unwrap().as_slice()).unwrap();
        let mut seen = BTreeSet::new();
        for file in &set.file {
            assert!(file.dependency.iter().all(|import| seen.contains(import.as_str())), "{}", file.name());
            assert!(seen.insert(file.name()), "{}", file.name());
        }
        for name in ["otp/v1/otp.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"] {
            assert!(seen.contains(name), "{name}: {seen:?}");
        }
    }
}
