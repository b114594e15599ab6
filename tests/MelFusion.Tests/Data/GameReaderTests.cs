using System.Text;
using MelFusion.Training.Data.Build;
using MelFusion.Training.Data.Build.Readers;
using Shouldly;
using Xunit;

namespace MelFusion.Tests.Data;

/// <summary>Each game's reader on a small tree made by hand.</summary>
public sealed class GameReaderTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("melfusion-games").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void SuperTuxKart_pairs_a_race_track_with_the_music_it_names_and_its_fast_version()
    {
        const string data = "usr/share/games/supertuxkart/data/";
        Put("supertuxkart-data", data + "tracks/lighthouse/track.xml", "<track name='Around the Lighthouse' music='bay.music' screenshot='screenshot.jpg'/>");
        Put("supertuxkart-data", data + "tracks/lighthouse/screenshot.jpg");
        Put("supertuxkart-data", data + "music/bay.music", "<music title='The Bay' composer='X' file='bay.ogg'/>");
        Put("supertuxkart-data", data + "music/bay.ogg");
        Put("supertuxkart-data", data + "music/bay_fast.ogg");
        Put("supertuxkart-data", data + "tracks/broken/track.xml", "<track name=");
        var scene = Read(new SuperTuxKartReader()).ShouldHaveSingleItem();
        scene.Name.ShouldBe("Around the Lighthouse");
        Names(scene).ShouldBe(["bay.ogg", "bay_fast.ogg", "screenshot.jpg"]);
        scene.Tracks.Select(track => track.Tune).Distinct().ShouldHaveSingleItem();
    }

    [Fact]
    public void Names_that_lead_out_of_the_games_folder_are_not_followed()
    {
        const string data = "usr/share/games/supertuxkart/data/";
        File.WriteAllText(Path.Combine(_root, "secret.jpg"), "x");
        Put("supertuxkart-data", data + "tracks/evil/track.xml", "<track name='Evil' music='bay.music' screenshot='../../../../../../../../secret.jpg'/>");
        Put("supertuxkart-data", data + "music/bay.music", $"<music title='The Bay' file='{Path.Combine(_root, "secret.jpg")}'/>");
        Read(new SuperTuxKartReader()).ShouldBeEmpty();
        MediaFile.Below(Path.Combine(_root, "supertuxkart-data"), "../secret.jpg").ShouldBeNull();
        MediaFile.Below(_root, "secret.jpg").ShouldNotBeNull();
    }

    [Fact]
    public void Hedgewars_paints_the_sky_under_the_horizon_of_a_theme()
    {
        const string data = "usr/share/games/hedgewars/Data/";
        Put("hedgewars-data", data + "Themes/Beach/theme.cfg", "sky = 1, 2, 3\nmusic = Beach.ogg\n");
        Put("hedgewars-data", data + "Themes/Beach/Sky.png");
        Put("hedgewars-data", data + "Themes/Beach/horizont.png");
        Put("hedgewars-data", data + "Music/Beach.ogg");
        var scene = Read(new HedgewarsReader()).ShouldHaveSingleItem();
        scene.Pictures.ShouldHaveSingleItem().Layers.Select(Path.GetFileName).ShouldBe(["Sky.png", "horizont.png"]);
        scene.Tracks.ShouldHaveSingleItem().Title.ShouldBe("beach");
    }

    [Fact]
    public void MegaGlest_pairs_factions_and_the_scenarios_in_which_they_play()
    {
        const string data = "usr/share/games/megaglest/";
        Put("megaglest-data", data + "techs/megapack/factions/norsemen/music/north.ogg");
        Put("megaglest-data", data + "techs/megapack/factions/norsemen/loading_screen.jpg");
        Put("megaglest-data", data + "scenarios/storming/storming.xml", "<scenario><players><player faction='norsemen'/><player faction='norsemen'/></players></scenario>");
        Put("megaglest-data", data + "scenarios/storming/loading_screen.jpg");
        Read(new MegaGlestReader()).Select(scene => scene.Name).ShouldBe(["storming", "norsemen"], ignoreOrder: true);
    }

    [Fact]
    public void Wesnoth_pairs_the_music_of_a_scenario_with_its_story_art_and_not_with_what_is_commented_out()
    {
        const string campaign = "usr/share/games/wesnoth/1.16/data/campaigns/Heir/";
        Put("wesnoth-1.16-music", "usr/share/games/wesnoth/1.16/data/core/music/knolls.ogg");
        Put("wesnoth-1.16-music", "usr/share/games/wesnoth/1.16/data/core/music/battle.ogg");
        Put("wesnoth-1.16-httt", campaign + "images/story/ship.jpg");
        Put("wesnoth-1.16-httt", campaign + "images/story/other.jpg");
        Put("wesnoth-1.16-httt", campaign + "scenarios/01_The_Elves.cfg", "{SCENARIO_MUSIC \"knolls.ogg\"}\n # {EXTRA \"battle.ogg\"}\n background=story/ship.jpg\n");
        var scene = Read(new WesnothReader()).ShouldHaveSingleItem();
        Names(scene).ShouldBe(["knolls.ogg", "ship.jpg"]);
        scene.Name.ShouldBe("the elves");
    }

    [Fact]
    public void SuperTux_pairs_sector_by_sector()
    {
        const string data = "usr/share/games/supertux2/";
        Put("supertux-data", data + "music/antarctic/cave.ogg");
        Put("supertux-data", data + "music/forest/forest.ogg");
        Put("supertux-data", data + "images/background/antarctic/arctis2.png");
        Put("supertux-data", data + "images/background/forest/night.png");
        Put("supertux-data", data + "levels/world1/deep.stl", """
            (supertux-level (name (_ "Deep"))
              (sector (name "main") (music (file "music/antarctic/cave.music")) (background (image "images/background/arctis2.png")))
              (sector (name "two") (music "forest.ogg") (background (image "images/background/forest/night.png"))))
            """);
        Read(new SuperTuxReader()).Select(scene => string.Join('+', Names(scene))).ShouldBe(["cave.ogg+arctis2.png", "forest.ogg+night.png"]);
    }

    [Fact]
    public void Naev_plays_at_a_planet_what_its_class_and_its_people_ask_for()
    {
        const string data = "usr/share/naev/dat/";
        foreach (var song in new[] { "snow", "dvaered1", "ocean" })
        {
            Put("naev-data", data + $"snd/music/{song}.ogg");
        }

        Put("naev-data", data + "gfx/planet/exterior/snow.png");
        Put("naev-data", data + "assets/adham.xml", "<asset name='Adham'><GFX><exterior>snow.png</exterior></GFX><presence><faction>Dvaered</faction></presence><general><class>P</class></general></asset>");
        Names(Read(new NaevReader()).ShouldHaveSingleItem()).ShouldBe(["snow.ogg", "dvaered1.ogg", "snow.png"]);
    }

    [Fact]
    public void Pekka_Kana_names_scenery_and_music_in_the_head_of_a_level()
    {
        const string data = "usr/share/games/pekka-kana-2/data/";
        Put("pekka-kana-2-data", data + "gfx/scenery/field3_d.bmp");
        Put("pekka-kana-2-data", data + "music/song01.xm");
        var head = new byte[200];
        Encoding.ASCII.GetBytes("1.3").CopyTo(head, 0);
        Encoding.ASCII.GetBytes("field3_d.bmp").CopyTo(head, 18);
        Encoding.ASCII.GetBytes("song01.xm").CopyTo(head, 31);
        Encoding.ASCII.GetBytes("training").CopyTo(head, 44);
        PutBytes("pekka-kana-2-data", data + "episodes/island/level001.map", head);
        PutBytes("pekka-kana-2-data", data + "episodes/island/cut.map", head[..20]);
        var scene = Read(new PekkaKanaReader()).ShouldHaveSingleItem();
        Names(scene).ShouldBe(["song01.xm", "field3_d.bmp"]);
        scene.Name.ShouldBe("training");
    }

    [Fact]
    public void Extreme_Tux_Racer_shows_the_sky_of_the_light_in_which_a_race_runs()
    {
        const string data = "usr/share/games/etr/";
        Put("extremetuxracer-data", data + "music/music.lst", "# names\n*[name] calmrace [file] calm.ogg\n");
        Put("extremetuxracer-data", data + "music/racing_themes.lst", "*[name] calm [race] calmrace [wonrace] w\n");
        Put("extremetuxracer-data", data + "music/calm.ogg");
        Put("extremetuxracer-data", data + "env/etr/night/front.png");
        Put("extremetuxracer-data", data + "courses/events.lst", "*[struct] 0 [race] r [group] default [course] bunny_hill [light] night [snow] 0\n[herring] 20 [theme] calm\n");
        Names(Read(new ExtremeTuxRacerReader()).ShouldHaveSingleItem()).ShouldBe(["calm.ogg", "front.png"]);
    }

    [Fact]
    public void Zero_AD_pairs_a_people_with_its_songs()
    {
        const string data = "usr/share/games/0ad/mods/public/public.zip.open/";
        Put("0ad-data", data + "audio/music/Sands.ogg");
        Put("0ad-data", data + "audio/music/Road.ogg");
        Put("0ad-data", data + "simulation/data/civs/pers.json", "{\"Music\":[{\"File\":\"Sands.ogg\"},{\"File\":7}]}");
        Put("0ad-data", data + "simulation/data/civs/odd.json", "no json");
        Put("0ad-data", data + "art/textures/ui/loading/tips/persian_architecture.png");
        Put("0ad-data", data + "art/textures/ui/loading/tips/forge.png");
        Read(new ZeroAdReader()).Select(scene => string.Join('+', Names(scene))).ShouldBe(["Road.ogg+forge.png", "Sands.ogg+persian_architecture.png"], ignoreOrder: true);
    }

    [Fact]
    public void Warmux_plays_a_maps_own_list_or_the_common_one()
    {
        const string data = "usr/share/games/warmux/";
        Put("warmux-data", data + "music/ingame/sea.m3u", "wave.ogg\n../../../../../../../secret.ogg\n");
        Put("warmux-data", data + "music/ingame/ingame.m3u", "common.ogg");
        Put("warmux-data", data + "music/ingame/wave.ogg");
        Put("warmux-data", data + "music/ingame/common.ogg");
        Put("warmux-data", data + "map/ship/config.xml", "<resources><name>Ship</name><music_playlist>sea</music_playlist></resources>");
        Put("warmux-data", data + "map/ship/sky.jpg");
        Put("warmux-data", data + "map/farm/config.xml", "<resources><name>Farm</name></resources>");
        Put("warmux-data", data + "map/farm/preview.jpg");
        Read(new WarmuxReader()).Select(scene => string.Join('+', Names(scene))).ShouldBe(["common.ogg+preview.jpg", "wave.ogg+sky.jpg"], ignoreOrder: true);
    }

    [Fact]
    public void Nexuiz_finds_the_track_behind_a_number()
    {
        const string data = "usr/share/games/nexuiz/data/";
        Put("nexuiz-data", data + "data.pk3.open/common.cfg", "set g_cdtracks_remaplist \"first second\" \"a list\"\n");
        Put("nexuiz-data", data + "data.pk3.open/maps/sky.mapinfo", "title Blue Sky\ndescription Small and fun\ncdtrack 2\n");
        Put("nexuiz-data", data + "data.pk3.open/maps/sky.jpg");
        Put("nexuiz-music", data + "music.pk3.open/sound/cdtracks/first.ogg");
        Put("nexuiz-music", data + "music.pk3.open/sound/cdtracks/second.ogg");
        Names(Read(new NexuizReader()).ShouldHaveSingleItem()).ShouldBe(["second.ogg", "sky.jpg"]);
    }

    [Fact]
    public void Rules_pair_by_names_of_files()
    {
        Put("lugaru-data", "usr/share/games/lugaru/Sounds/Music1Snow.ogg");
        Put("lugaru-data", "usr/share/games/lugaru/Sounds/Music1Grass.ogg");
        Put("lugaru-data", "usr/share/games/lugaru/Textures/Skybox(snow)/Front.jpg");
        var lugaru = RuleReader.BuiltIn().Single(reader => reader.Packages.Contains("lugaru-data"));
        Names(Read(lugaru).ShouldHaveSingleItem()).ShouldBe(["Music1Snow.ogg", "Front.jpg"]);
    }

    [Fact]
    public void No_reader_asks_for_a_refused_package()
    {
        GameReaders.All.SelectMany(reader => reader.Packages).Intersect(DebianPackages.Refused).ShouldBeEmpty();
        GameReaders.All.Count.ShouldBeGreaterThan(15);
    }

    [Theory]
    [InlineData("../evil")]
    [InlineData("-x")]
    [InlineData("a b")]
    [InlineData("singularity-music")]
    public async Task Hostile_or_refused_package_names_are_not_fetched(string name) =>
        (await Should.ThrowAsync<MelFusionException>(() => new DebianPackages(_root).FetchAsync(name, CancellationToken.None))).Message.ShouldContain(name);

    private void Put(string package, string path, string text = "x") => PutBytes(package, path, Encoding.UTF8.GetBytes(text));

    private void PutBytes(string package, string path, byte[] bytes)
    {
        var file = Path.Combine(_root, package, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllBytes(file, bytes);
    }

    private List<GameScene> Read(IGameReader reader) => [.. reader.Read(new GameTrees(reader.Packages.ToDictionary(package => package, package => Path.Combine(_root, package))))];

    private static IEnumerable<string?> Names(GameScene scene) => scene.Tracks.Select(track => track.File).Concat(scene.Pictures.SelectMany(picture => picture.Layers)).Select(Path.GetFileName);
}
