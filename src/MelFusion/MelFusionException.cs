namespace MelFusion;

/// <summary>
/// Something outside the program is not as it must be: a file, an option, a checkpoint. The message is one sentence for the person at
/// the keyboard that says what is wrong, where, and what to do; the command line prints it as it is and ends with exit code 1.
/// </summary>
public class MelFusionException : Exception
{
    /// <summary>With the sentence.</summary>
    public MelFusionException(string message) : base(message)
    {
    }

    /// <summary>With the sentence and the cause.</summary>
    public MelFusionException(string message, Exception cause) : base(message, cause)
    {
    }
}
