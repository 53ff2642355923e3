//! An exception's addresses turned into functions and lines.
//!
//! The guest prints its registers, a window of its stack, and which words there could be return addresses. With the
//! unwind table (`.eh_frame`) of the unstripped image the chain of calls follows from registers and stack; where that
//! ends early, the candidates are shown instead, and said to be candidates.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use addr2line::Loader;
use gimli::{
    BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext, UnwindSection,
    X86_64,
};
use object::{Object, ObjectSection};

use crate::console::{Event, number};

/// Longest chain of calls that is shown.
const DEEPEST: usize = 64;

/// Registers by their DWARF numbers (System V ABI for x86-64, figure 3.36).
const REGISTERS: [(&str, Register); 17] = [
    ("rax", X86_64::RAX),
    ("rdx", X86_64::RDX),
    ("rcx", X86_64::RCX),
    ("rbx", X86_64::RBX),
    ("rsi", X86_64::RSI),
    ("rdi", X86_64::RDI),
    ("rbp", X86_64::RBP),
    ("rsp", X86_64::RSP),
    ("r8", X86_64::R8),
    ("r9", X86_64::R9),
    ("r10", X86_64::R10),
    ("r11", X86_64::R11),
    ("r12", X86_64::R12),
    ("r13", X86_64::R13),
    ("r14", X86_64::R14),
    ("r15", X86_64::R15),
    ("rip", X86_64::RA),
];

/// What a guest left behind, in terms of its source; `None` when it left nothing.
#[must_use]
pub fn explain(unstripped: &Path, failure: &[Event]) -> Option<String> {
    let head = failure.iter().find(|event| matches!(event.word.as_str(), "exception" | "panic"))?;
    let mut text = headline(head);
    let memory = StackWindow::of(failure);
    let registers = failure.iter().find(|event| event.text("rip").is_some()).map(Registers::of);
    let elf = fs::read(unstripped).unwrap_or_default();
    let loader = Loader::new(unstripped).ok();

    let chain = registers.map(|registers| unwind(&elf, registers, &memory)).unwrap_or_default();
    for (depth, address) in chain.iter().enumerate() {
        // A return address is the instruction after the call; the call is what is meant.
        let place = if depth == 0 { *address } else { address.saturating_sub(1) };
        let _ = writeln!(text, "  {depth:>2}  {}", describe(loader.as_ref(), *address, place));
    }
    let candidates: Vec<u64> = failure
        .iter()
        .filter(|event| event.word == "return-address")
        .filter_map(|event| number(event.arguments.first()?))
        .collect();
    if chain.len() < 2 && !candidates.is_empty() {
        text.push_str(
            "  The chain of calls could not be followed. Words on the stack that may be return addresses:\n",
        );
        for address in candidates {
            let _ = writeln!(text, "   ?  {}", describe(loader.as_ref(), address, address.saturating_sub(1)));
        }
    }
    Some(text)
}

fn headline(event: &Event) -> String {
    let text = |key| event.text(key).unwrap_or("?");
    if event.word == "panic" {
        return format!("Panic at {}: {}\n", text("location"), text("message"));
    }
    let mut line = format!("Exception {} ({}), error code {}", text("vector"), text("name"), text("error"));
    if let Some(address) = event.text("cr2") {
        let _ = write!(line, ", address {address}");
    }
    line.push('\n');
    line
}

/// The function and line of an address; inlined functions first, each with its line.
fn describe(loader: Option<&Loader>, shown: u64, place: u64) -> String {
    let mut parts = Vec::new();
    // Where line numbers are kept without all of the debug information, function names there have no path.
    let symbol = loader
        .and_then(|loader| loader.find_symbol(place))
        .map(|symbol| addr2line::demangle_auto(symbol.into(), None).into_owned());
    if let Some(loader) = loader
        && let Ok(mut frames) = loader.find_frames(place)
    {
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|name| name.demangle().ok().map(String::from));
            let line = frame.location.and_then(|place| Some(format!("  {}:{}", place.file?, place.line?)));
            parts.push((function, line.unwrap_or_default()));
        }
    }
    // The last one was not inlined: the symbol table has its whole path.
    match parts.last_mut() {
        Some((function, _)) => *function = symbol.or(function.take()),
        None => parts.extend(symbol.map(|symbol| (Some(symbol), String::new()))),
    }
    if parts.is_empty() {
        return format!("{shown:#x}");
    }
    let parts: Vec<String> =
        parts.into_iter().map(|(function, line)| function.unwrap_or_else(|| "?".into()) + &line).collect();
    format!("{shown:#x}  {}", parts.join("\n          inlined into  "))
}

#[derive(Clone)]
struct Registers(BTreeMap<u16, u64>);

impl Registers {
    fn of(event: &Event) -> Self {
        Self(
            REGISTERS.iter().filter_map(|(name, register)| Some((register.0, event.number(name)?))).collect(),
        )
    }

    fn get(&self, register: Register) -> Option<u64> {
        self.0.get(&register.0).copied()
    }
}

/// The part of the stack that the guest printed.
struct StackWindow(BTreeMap<u64, Vec<u8>>);

impl StackWindow {
    fn of(failure: &[Event]) -> Self {
        let pieces = failure.iter().filter(|event| event.word == "stack").filter_map(|event| {
            let digits = event.text("bytes")?;
            let bytes = digits
                .as_bytes()
                .chunks_exact(2)
                .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect::<Option<Vec<u8>>>()?;
            Some((event.number("address")?, bytes))
        });
        Self(pieces.collect())
    }

    fn word(&self, address: u64) -> Option<u64> {
        let (start, bytes) = self.0.range(..=address).next_back()?;
        let offset = usize::try_from(address - start).ok()?;
        let word = bytes.get(offset..offset.checked_add(8)?)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    }
}

/// Follows the chain of calls from where the registers were taken: that address, then return addresses. Ends where the
/// unwind table or the printed stack ends.
fn unwind(elf: &[u8], registers: Registers, memory: &StackWindow) -> Vec<u64> {
    let mut chain: Vec<u64> = registers.get(X86_64::RA).into_iter().collect();
    let Ok(file) = object::File::parse(elf) else { return chain };
    let Some(section) = file.section_by_name(".eh_frame") else { return chain };
    let Ok(bytes) = section.data() else { return chain };
    let table = EhFrame::new(bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut current = registers;
    while chain.len() < DEEPEST {
        let Some(next) = caller(&table, &bases, &current, chain.len() > 1, memory) else { break };
        let Some(address) = next.get(X86_64::RA).filter(|address| *address != 0) else { break };
        chain.push(address);
        current = next;
    }
    chain
}

/// The registers as they were in the caller (DWARF 5, 6.4).
fn caller(
    table: &EhFrame<gimli::EndianSlice<'_, LittleEndian>>,
    bases: &BaseAddresses,
    registers: &Registers,
    is_return_address: bool,
    memory: &StackWindow,
) -> Option<Registers> {
    let place = registers.get(X86_64::RA)?.checked_sub(u64::from(is_return_address))?;
    let mut context = UnwindContext::new();
    let row = table.unwind_info_for_address(bases, &mut context, place, EhFrame::cie_from_offset).ok()?;
    let CfaRule::RegisterAndOffset { register, offset } = *row.cfa() else { return None };
    let frame_address = registers.get(register)?.checked_add_signed(offset)?;
    let mut result = registers.clone();
    result.0.remove(&X86_64::RA.0);
    for (register, rule) in row.registers() {
        let value = match *rule {
            RegisterRule::Offset(offset) => memory.word(frame_address.checked_add_signed(offset)?),
            RegisterRule::ValOffset(offset) => frame_address.checked_add_signed(offset),
            RegisterRule::Register(other) => registers.get(other),
            RegisterRule::SameValue => registers.get(*register),
            _ => None,
        };
        match value {
            Some(value) => drop(result.0.insert(register.0, value)),
            None => drop(result.0.remove(&register.0)),
        }
    }
    result.0.insert(X86_64::RSP.0, frame_address);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(lines: &[&str]) -> Vec<Event> {
        lines.iter().map(|line| Event::parse(line).unwrap()).collect()
    }

    #[test]
    fn words_are_read_across_the_printed_window_only() {
        let memory = StackWindow::of(&events(&[
            "@skiff stack address=0x1000 bytes=00112233445566778899aabbccddeeff",
            "@skiff stack address=0x2000 bytes=0100000000000000",
        ]));
        assert_eq!(memory.word(0x1000), Some(0x7766_5544_3322_1100));
        assert_eq!(memory.word(0x1008), Some(0xffee_ddcc_bbaa_9988));
        assert_eq!(memory.word(0x2000), Some(1));
        assert_eq!(memory.word(0x100c), None);
        assert_eq!(memory.word(0xff8), None);
    }

    #[test]
    fn without_an_image_the_bare_addresses_are_shown() {
        let failure = events(&[
            "@skiff exception vector=14 name=page-fault error=0x2 rip=0x101234 rsp=0x2000 cr2=0x0",
            "@skiff return-address 0x105678",
        ]);
        let text = explain(Path::new("/nonexistent"), &failure).unwrap();
        assert!(text.contains("Exception 14 (page-fault), error code 0x2, address 0x0"), "{text}");
        assert!(text.contains("0x101234") && text.contains("0x105678"), "{text}");
    }

    /// This test's own code is unwound: registers as if a function had just been called, its return address on the
    /// stack, so the chain leads from the callee into the caller.
    #[test]
    fn the_chain_of_calls_follows_from_the_unwind_table() {
        let program = std::env::current_exe().unwrap();
        let elf = fs::read(&program).unwrap();
        let file = object::File::parse(&*elf).unwrap();
        let address = |name: &str| {
            let mut symbols = object::Object::symbols(&file);
            let symbol = symbols
                .find(|symbol| object::ObjectSymbol::name(symbol).is_ok_and(|text| text.contains(name)));
            object::ObjectSymbol::address(&symbol.unwrap())
        };
        let (callee, caller) = (address("symbols5tests6callee"), address("symbols5tests6caller"));
        assert_eq!(self::caller(1), 3);
        let head =
            format!("@skiff exception vector=6 name=invalid-opcode error=0x0 rip={callee:#x} rsp=0x1000");
        let bytes: String = (caller + 1).to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let stack = format!("@skiff stack address=0x1000 bytes={bytes}");
        let text = explain(&program, &events(&[&head, &stack])).unwrap();
        assert!(text.contains("tests::callee") && text.contains("tests::caller"), "{text}");
    }

    #[inline(never)]
    fn callee(value: u64) -> u64 {
        std::hint::black_box(value) + 1
    }

    #[inline(never)]
    fn caller(value: u64) -> u64 {
        callee(value) + 1
    }
}
