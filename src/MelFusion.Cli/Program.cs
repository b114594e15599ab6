Console.WriteLine("MelFusion");
