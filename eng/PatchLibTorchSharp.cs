using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// Makes libLibTorchSharp.so load beside a libstdc++ older than GCC 13. The library names one symbol of version GLIBCXX_3.4.32,
/// std::ios_base_library_init(), whose only use is to pull iostream initialisation in; every libstdc++ does that by itself. The symbol
/// is renamed to std::get_new_handler() (version 3.4.20, everywhere present), and the need for 3.4.32 becomes a second one for 3.4.20.
/// Idempotent; a hard link to the package cache is replaced, never written through.
/// </summary>
public class PatchLibTorchSharp : Task
{
    private const string Missing = "_ZSt21ios_base_library_initv", Present = "_ZSt15get_new_handlerv";
    private const string New = "GLIBCXX_3.4.32", Old = "GLIBCXX_3.4.20";
    private static readonly string[] SystemFolders =
        { "/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib64", "/lib64", "/usr/lib", "/lib" };

    /// <summary>The library in an output folder.</summary>
    public string Library { get; set; }

    public override bool Execute()
    {
        if (SystemFolders.Select(folder => Path.Combine(folder, "libstdc++.so.6")).Where(File.Exists).Any(HasNewVersion))
        {
            return true;
        }

        byte[] elf = File.ReadAllBytes(Library);
        if (!Patch(elf))
        {
            return true;
        }

        DateTime written = File.GetLastWriteTimeUtc(Library);
        string beside = Library + ".patched";
        File.WriteAllBytes(beside, elf);
        File.SetLastWriteTimeUtc(beside, written);
        File.Delete(Library);
        File.Move(beside, Library);
        Log.LogMessage(MessageImportance.High, "libLibTorchSharp.so patched: this system's libstdc++ ends before " + New + ".");
        return true;
    }

    private static bool HasNewVersion(string libstdcxx) => IndexOf(File.ReadAllBytes(libstdcxx), New + "\0") >= 0;

    private static int IndexOf(byte[] data, string text) => Encoding.ASCII.GetString(data).IndexOf(text, StringComparison.Ordinal);

    /// <summary>Changes the bytes in place; false where there is no need for the new version (any more).</summary>
    private static bool Patch(byte[] elf)
    {
        var sections = Sections(elf);
        long strings = sections[".dynstr"].Offset;
        var (newNeed, oldNeed) = Needs(elf, sections[".gnu.version_r"].Offset, strings);
        if (newNeed == 0 || oldNeed == 0)
        {
            return false;
        }

        long symbols = sections[".dynsym"].Offset;
        for (int i = 0; i < sections[".dynsym"].Size / 24; i++)
        {
            long name = strings + BitConverter.ToUInt32(elf, (int)(symbols + 24 * i));
            if (Text(elf, name) == Missing)
            {
                Encoding.ASCII.GetBytes(Present + "\0").CopyTo(elf, name);
                BitConverter.GetBytes(BitConverter.ToUInt16(elf, (int)oldNeed + 6)).CopyTo(elf, sections[".gnu.version"].Offset + 2 * i);
            }
        }

        Array.Copy(elf, oldNeed, elf, newNeed, 4);         // vna_hash
        Array.Copy(elf, oldNeed + 8, elf, newNeed + 8, 4); // vna_name
        return true;
    }

    /// <summary>Where the two versions of libstdc++ stand in the version needs (Elf64_Vernaux); 0 for one that is not there.</summary>
    private static (long New, long Old) Needs(byte[] elf, long need, long strings)
    {
        long found = 0, foundOld = 0;
        while (true)
        {
            long aux = need + BitConverter.ToUInt32(elf, (int)need + 8);
            for (int i = 0; i < BitConverter.ToUInt16(elf, (int)need + 2); i++)
            {
                string version = Text(elf, strings + BitConverter.ToUInt32(elf, (int)aux + 8));
                found = version == New ? aux : found;
                foundOld = version == Old ? aux : foundOld;
                aux += BitConverter.ToUInt32(elf, (int)aux + 12);
            }

            uint next = BitConverter.ToUInt32(elf, (int)need + 12);
            if (next == 0)
            {
                return (found, foundOld);
            }

            need += next;
        }
    }

    private static Dictionary<string, (long Offset, long Size)> Sections(byte[] elf)
    {
        long table = BitConverter.ToInt64(elf, 0x28);
        int size = BitConverter.ToUInt16(elf, 0x3a), count = BitConverter.ToUInt16(elf, 0x3c), names = BitConverter.ToUInt16(elf, 0x3e);
        long At(int section, int field) => BitConverter.ToInt64(elf, (int)(table + section * size + field));
        var sections = new Dictionary<string, (long, long)>();
        for (int i = 0; i < count; i++)
        {
            string name = Text(elf, At(names, 0x18) + BitConverter.ToUInt32(elf, (int)(table + i * size)));
            sections[name] = (At(i, 0x18), At(i, 0x20));
        }

        return sections;
    }

    private static string Text(byte[] elf, long offset)
    {
        int end = Array.IndexOf(elf, (byte)0, (int)offset);
        return Encoding.ASCII.GetString(elf, (int)offset, end - (int)offset);
    }
}
