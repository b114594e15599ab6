using System.Xml;
using System.Xml.Linq;

namespace MelFusion.Training.Data.Build.Readers;

/// <summary>Reads the games' XML: a file that is not well formed is skipped, and no document type is ever followed.</summary>
internal static class LooseXml
{
    /// <summary>The document, or null where the file is no XML.</summary>
    /// <param name="file">Path of the file.</param>
    public static XDocument? Read(string file)
    {
        try
        {
            using var reader = XmlReader.Create(file, new XmlReaderSettings { DtdProcessing = DtdProcessing.Ignore, XmlResolver = null });
            return XDocument.Load(reader);
        }
        catch (XmlException)
        {
            return null;
        }
    }
}
