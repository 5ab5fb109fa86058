//! What blvm-node makes of a module's manifest: `blvm_manifest FILE` prints its name and version, then `valid` or
//! what is wrong with it, a line each.

use anyhow::{Result, anyhow, bail};
use blvm_node::module::registry::manifest::ModuleManifest;
use blvm_node::module::validation::{ManifestValidator, ValidationResult, validate_module_signature};

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [file] = &arguments[..] else { bail!("usage: blvm_manifest FILE") };
    let manifest = ModuleManifest::from_file(file).map_err(|error| anyhow!("{error:?}"))?;
    println!("{} {}", manifest.name, manifest.version);
    match ManifestValidator::new().validate(&manifest) {
        ValidationResult::Valid => println!("valid"),
        ValidationResult::Invalid(errors) => errors.iter().for_each(|error| println!("{error}")),
    }
    if let Err(error) = validate_module_signature(&manifest, file.as_ref()) {
        println!("signatures: {error:?}");
    }
    Ok(())
}
