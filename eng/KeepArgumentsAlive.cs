using System.Collections.Generic;
using System.IO;
using System.Linq;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;
using Mono.Cecil;
using Mono.Cecil.Cil;

/// <summary>
/// Makes TorchSharp's calls of its native half safe from garbage collections. Its methods hand over the pointers of their arguments and let
/// go of the arguments themselves, so that a collection during the call may free a number or a tensor while libtorch reads it. In a copy of
/// the library every method that calls a native one holds its instance and its arguments until it returns, as GC.KeepAlive in its source would.
/// </summary>
public class KeepArgumentsAlive : Task
{
    private static readonly Dictionary<string, OpCode> ByName = typeof(OpCodes).GetFields().Select(field => (OpCode)field.GetValue(null)).ToDictionary(code => code.Name);

    /// <summary>The library of the package.</summary>
    public string Library { get; set; }

    /// <summary>The copy to write.</summary>
    public string Output { get; set; }

    public override bool Execute()
    {
        using (var module = ModuleDefinition.ReadModule(Library))
        {
            var collector = new TypeReference("System", "GC", module, module.TypeSystem.CoreLibrary);
            var keepAlive = new MethodReference("KeepAlive", module.TypeSystem.Void, collector) { Parameters = { new ParameterDefinition(module.TypeSystem.Object) } };
            var methods = module.GetTypes().SelectMany(type => type.Methods).Where(CallsNative).ToList();
            methods.ForEach(method => Keep(method, keepAlive));

            string beside = Output + ".new";
            Directory.CreateDirectory(Path.GetDirectoryName(Output));
            module.Write(beside);
            File.Delete(Output);
            File.Move(beside, Output);
            Log.LogMessage(MessageImportance.Normal, "{0}: {1} methods hold their arguments until they return.", Path.GetFileName(Library), methods.Count);
        }

        return true;
    }

    private static bool CallsNative(MethodDefinition method) => method.HasBody && method.Body.Instructions.Any(instruction =>
        instruction.OpCode.Code == Code.Call && instruction.Operand is MethodDefinition called && called.IsPInvokeImpl);

    private static void Keep(MethodDefinition method, MethodReference keepAlive)
    {
        var body = method.Body;
        var kept = method.Parameters.Where(parameter => IsObject(parameter.ParameterType)).ToList();
        if (method.HasThis && !method.DeclaringType.IsValueType)
        {
            kept.Insert(0, body.ThisParameter);
        }

        if (kept.Count == 0)
        {
            return;
        }

        foreach (var jump in body.Instructions.Where(instruction => instruction.OpCode.OperandType == OperandType.ShortInlineBrTarget))
        {
            jump.OpCode = ByName[jump.OpCode.Name.Substring(0, jump.OpCode.Name.Length - ".s".Length)]; // the way grows longer than 127 bytes
        }

        var processor = body.GetILProcessor();
        foreach (var end in body.Instructions.Where(instruction => instruction.OpCode.Code == Code.Ret).ToList())
        {
            // The instruction itself becomes the first of the new ones: what jumps to it keeps arguments alive too.
            (end.OpCode, end.Operand) = (OpCodes.Ldarg, kept[0]);
            var last = end;
            void Append(Instruction next)
            {
                processor.InsertAfter(last, next);
                last = next;
            }

            Append(processor.Create(OpCodes.Call, keepAlive));
            foreach (var parameter in kept.Skip(1))
            {
                Append(processor.Create(OpCodes.Ldarg, parameter));
                Append(processor.Create(OpCodes.Call, keepAlive));
            }

            Append(processor.Create(OpCodes.Ret));
        }
    }

    private static bool IsObject(TypeReference type) =>
        !type.IsValueType && !type.IsByReference && !type.IsPointer && !type.IsGenericParameter && type.MetadataType != MetadataType.String;
}
