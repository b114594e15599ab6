using MelFusion.Wave;
using ScottPlot;
using TorchSharp;
using static TorchSharp.torch;

namespace MelFusion.Evaluation.Reports;

/// <summary>Log-mel spectrograms of sounds in rows and columns, time to the right and low bands below, each squeezed to one tile.</summary>
public static class SpectrogramSheet
{
    private const int TileFrames = 300, Gap = 8;

    /// <summary>Writes a PNG.</summary>
    /// <param name="path">The file.</param>
    /// <param name="front">How sounds become mels; they are resampled to its rate.</param>
    /// <param name="rows">The sounds, row by row; null leaves a tile free.</param>
    /// <param name="title">What stands above.</param>
    public static void Draw(string path, MelSpectrogram front, IReadOnlyList<IReadOnlyList<Waveform?>> rows, string title)
    {
        int columns = rows.Max(row => row.Count), bands = front.Config.NMels;
        var grid = new double[(rows.Count * (bands + Gap)) - Gap, (columns * (TileFrames + Gap)) - Gap];
        Fill(grid, double.NaN);
        for (int row = 0; row < rows.Count; row++)
        {
            for (int column = 0; column < rows[row].Count; column++)
            {
                if (rows[row][column] is { } sound)
                {
                    Place(grid, front, sound, row * (bands + Gap), column * (TileFrames + Gap));
                }
            }
        }

        using var plot = new Plot();
        plot.Add.Heatmap(grid);
        plot.Title(title);
        plot.HideAxesAndGrid();
        plot.Axes.Title.IsVisible = true;
        plot.SavePng(path, 260 * Math.Max(2, columns), 60 + (200 * rows.Count));
    }

    private static void Place(double[,] grid, MelSpectrogram front, Waveform sound, int row, int column)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        float[] samples = Resampler.ToMono(sound, front.Config.SampleRate);
        if (samples.Length < front.ShortestSignal)
        {
            return;
        }

        var mel = front.Forward(torch.tensor(samples).unsqueeze(0))[0]; // (M, T)
        (int bands, int frames) = ((int)mel.shape[0], (int)mel.shape[1]);
        float[] values = mel.contiguous().data<float>().ToArray();
        for (int band = 0; band < bands; band++)
        {
            for (int x = 0; x < TileFrames; x++)
            {
                grid[row + bands - 1 - band, column + x] = values[(band * frames) + (x * frames / TileFrames)];
            }
        }
    }

    private static void Fill(double[,] grid, double value)
    {
        for (int i = 0; i < grid.GetLength(0); i++)
        {
            for (int j = 0; j < grid.GetLength(1); j++)
            {
                grid[i, j] = value;
            }
        }
    }
}
