using System.Globalization;
using MelFusion.Cli;

// Numbers read and print the same everywhere.
CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
CultureInfo.CurrentUICulture = CultureInfo.InvariantCulture;
CultureInfo.DefaultThreadCurrentCulture = CultureInfo.InvariantCulture;
CultureInfo.DefaultThreadCurrentUICulture = CultureInfo.InvariantCulture;

TorchLog.ShowErrorsOnly();
using var interruption = new Interruption();
return Application.Run(args, Session.OfTerminal(interruption));
